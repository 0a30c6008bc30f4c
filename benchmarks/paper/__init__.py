"""The tables of the paper, HYBRID-BRIDGE (Saberi, Fu, Lin, NDSS 2014): measured here, beside its figures."""
