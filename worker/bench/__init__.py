"""The bench: what an event costs, held against the least that storing it durably costs, and nothing left behind.

Reading order: `sizes` (how much is measured), `streams` and `community` (what is sent), `brute` (what must come out),
`ground` (schemas and topics of its own), `load` (sending), `child` with `floor` (the measured processes), `process`
(the handle on them), `runs` (one measured run, its awards checked), `measures` and `growth` (the figures), `report`;
`operators` stands alone: what each operator costs, by its history, without any service.
"""
