#!/usr/bin/env python3
"""Run notebooks in place, nbdev flags honoured, and store their outputs: `.ci/notebooks.py nbs/00_skeleton.ipynb [...] [--flags slow]`.

`jupyter execute` ignores `#| eval: false` and test flags such as `#| slow`; this skips those cells and keeps what they show."""
import argparse, re, sys, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient

SKIP = ('slow', 'cuda', 'notest')


def flagged(cell, run):
    "Is this cell not to be run?"
    marks = re.findall(r'^[ \t]*#[ \t]*\|[ \t]*([\w:]+(?:[ \t]*\w+)?)', cell.source, re.M)
    return any(m.replace(' ', '') == 'eval:false' or (m in SKIP and m not in run) for m in marks)


class Client(NotebookClient):
    run = ()
    async def async_execute_cell(self, cell, cell_index, **kw):
        if cell.cell_type == 'code' and flagged(cell, self.run): return cell
        return await super().async_execute_cell(cell, cell_index, **kw)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('notebooks', nargs='+', type=Path); p.add_argument('--flags', nargs='*', default=[]); p.add_argument('--timeout', type=int, default=1800)
    a = p.parse_args()
    for f in a.notebooks:
        t, nb = time.time(), nbformat.read(f, 4)
        client = Client(nb, timeout=a.timeout, kernel_name='python3', resources={'metadata': {'path': str(f.parent)}})
        client.run = a.flags
        try: client.execute()
        finally:
            for c in nb.cells: # progress bars and warnings name this machine's paths and say nothing to a reader
                if c.cell_type == 'code': c.outputs = [o for o in c.outputs if o.get('name') != 'stderr']
            nbformat.write(nb, f)
        print(f'{f}: {time.time() - t:.1f} s, {f.stat().st_size / 1e3:.0f} kB')
        if f.stat().st_size > 1_000_000: sys.exit(f'{f} is over 1 MB: show smaller pictures')


if __name__ == '__main__': main()
