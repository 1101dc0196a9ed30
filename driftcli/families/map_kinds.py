"""How the map from draft ids to target ids is stored, as a drafter's record calls it; apart from `vocab_map`, which reads files."""

OFFSET = "offset"  # d2t holds target id minus draft id, as servers take it
ABSOLUTE = "absolute"  # d2t holds target ids
MARKED = "from t2d"  # the tokens that t2d marks, where d2t holds zeros alone and t2d marks others than the first ones
ZEROS = "zeros"  # offsets of 0 alone: the first ids of the target, which a trained vocabulary hardly is
