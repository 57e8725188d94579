"""A model to a stream and back: tensors are prepared, coded unit by unit, read and restored."""
