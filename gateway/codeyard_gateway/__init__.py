"""The gateway of Codeyard: Envoy, configured from the protos.

``render`` writes what Envoy runs on and says how to start it, ``settings`` are those of one installation, ``document``
and ``swagger`` are what the system service answers with, ``edge`` carries WebSockets. ``compiler`` makes it all from
the descriptor image. Nothing is imported here: a server process needs only a part.
"""
