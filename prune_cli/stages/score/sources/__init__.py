"""Where scores come from: a kernel, a training, a trained network, columns of the data, files."""
