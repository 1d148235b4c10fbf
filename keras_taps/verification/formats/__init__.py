"""ONNX and VNNLIB files."""
