"""Export: a network with its merges and peaks as ONNX or torch.export file, and a decoder that needs no torch."""
