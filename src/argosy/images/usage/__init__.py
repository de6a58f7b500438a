"""How to run an image where there is no Argosy: commands, and the files that other tools take."""
