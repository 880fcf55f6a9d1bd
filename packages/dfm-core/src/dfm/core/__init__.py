"""The engine of DFM; private to dfm-core."""
