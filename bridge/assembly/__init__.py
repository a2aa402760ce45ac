"""The composition root's rooms: how the parts of one flow are built from the configuration and bound to each other.

`bridge.app` decides what opens before what; here stands only which number of the configuration goes where.
"""
