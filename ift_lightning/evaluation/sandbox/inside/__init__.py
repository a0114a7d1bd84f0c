"""The half of the sandbox that runs inside it: standard library only, nothing of ours above it.

Its sources are sent to a bare interpreter, so none of these modules may import anything but the
standard library and each other.
"""
