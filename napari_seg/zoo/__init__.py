"""Models in and out: ONNX, TorchScript, packages of the BioImage Model Zoo."""
