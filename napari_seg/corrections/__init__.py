"""What the user vouches for: ledger, journal, project folder, training windows.

Import from the modules: `ledger` needs numpy only, `store` and `project` load zarr,
`windows` loads tifffile.
"""
