"""What nf_tables says of tables, chains, rules, sets and objects, and all of it in nft's own syntax."""
