"""What encoding and decoding a model consist of: tensors prepared, coded unit by unit, read and restored."""
