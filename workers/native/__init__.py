"""C operations for the steps of a decoder layer. Optional: built where a C compiler is available."""
