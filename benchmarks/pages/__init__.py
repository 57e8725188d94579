"""Pages of results, each made from the JSON files of the benchmark of its name; neither torch nor NNCodec is needed."""
