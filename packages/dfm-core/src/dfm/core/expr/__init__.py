"""The expression language of `${{ }}`: lexer, parser, nodes, evaluation, functions."""
