"""Settings: four layers of values, each value with where it comes from, and every loser kept.

`load.load_settings` is the door. `layers` says where the layers are, `read` makes nodes with places of a file, `merge`
puts layers over each other, `schema` knows what may be set and `decode` what a value means, `explain` tells a person
how a value came about. What may be set is declared once, as dataclass fields with `dfm.api.options.option`.
"""
