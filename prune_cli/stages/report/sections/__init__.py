"""The parts of a report page, one idea a module: files in, sections out."""
