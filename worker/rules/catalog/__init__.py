"""The catalog: documents as written to definitions, with every fault found at once.

`definitions` holds what a catalog is once read, `document` reads YAML or JSON with positions, `generators` turns
ladders, tenures and milestones into badges, `lint` checks and reports.
"""
