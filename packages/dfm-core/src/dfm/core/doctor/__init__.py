"""The checks of `dfm doctor`: each looks at one part of the installation, and says what mends what it finds.

A check returns findings and never raises for what it finds; it leaves nothing behind.
"""
