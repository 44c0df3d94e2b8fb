"""Where bytes are kept: files of this machine and objects of a store."""
