"""What lies between the products of a decoder, in C: an extra that is built where a compiler is."""
