"The shape of the package: rooms that import one way, at most six floors, modules of a readable length, an honest reading order."
import ast
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import pytest
from conftest import EXPORT, NOTEBOOKS, ROOT, cells

PACKAGE = ROOT / 'solopose'
MODULES = sorted(p for p in PACKAGE.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
LINES, FLOORS = 350, 6


def name_of(path):
    "Dotted name of a module."
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def sources(node, path):
    "Dotted names that an import statement takes something from, with the names taken."
    if isinstance(node, ast.Import): return [(a.name, '') for a in node.names]
    here = name_of(path).split('.')
    base = '.'.join([*here[:len(here) - node.level], *([node.module] if node.module else [])]) if node.level else node.module
    return [(base, a.name) for a in node.names]


@lru_cache
def imports():
    "(importing module, module imported from, name) for all imports inside the package, those in functions too."
    known, out = {name_of(p) for p in MODULES}, []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, (ast.Import, ast.ImportFrom)): continue
            for base, name in sources(node, path):
                whole = f'{base}.{name}'
                if whole in known: out.append((name_of(path), whole, ''))
                elif base in known: out.append((name_of(path), base, name))
    return out


def room(module):
    "A folder of modules is one room, a module at the top is its own."
    return '.'.join(module.split('.')[:2])


def arrows(of=lambda m: m):
    "{room: rooms that it imports from}"
    out = defaultdict(set)
    for a, b, _ in imports():
        if of(a) != of(b): out[of(a)].add(of(b))
    return out


def circle(graph):
    "Rooms that import each other in a loop, [] if there are none."
    done, path = set(), []
    def visit(k):
        if k in path: return path[path.index(k):] + [k]
        if k in done: return []
        path.append(k)
        found = next(filter(None, map(visit, sorted(graph.get(k, ())))), [])
        path.pop()
        done.add(k)
        return found
    return next(filter(None, map(visit, sorted(graph))), [])


def test_modules_do_not_import_each_other_in_a_loop(): assert not circle(arrows())


def test_rooms_do_not_import_each_other_in_a_loop(): assert not circle(arrows(room))


def test_a_loop_is_found():
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}) == ['b', 'c', 'b']
    assert not circle({'a': {'b', 'c'}, 'b': {'c'}})


def test_few_floors():
    "A room stands one floor above the highest room that it imports from."
    graph = arrows(room)
    @lru_cache
    def floor(k): return 1 + max(map(floor, graph.get(k, ())), default=0)
    high = {k: floor(k) for k in graph if floor(k) > FLOORS}
    assert not high, high


def test_no_private_name_leaves_its_room():
    taken = [f'{a} takes {n} from {b}' for a, b, n in imports() if n.startswith('_') and room(a) != room(b)]
    assert not taken, '\n'.join(taken)


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_no_module_is_longer_than_can_be_read(path):
    n = len(path.read_text(encoding='utf-8').splitlines())
    assert n <= LINES, f'{n} lines: a notebook of its own for each subject'


def place_in_book():
    "{module: place of its notebook in the sidebar}"
    listed = re.findall(r'^\s*- ([\w./-]+\.ipynb)\s*$', (ROOT / '_quarto.yml').read_text(encoding='utf-8'), re.M)
    place = {}
    for k, p in enumerate(listed):
        made = re.search(r'default_exp\s+([\w.]+)', (ROOT / 'nbs' / p).read_text(encoding='utf-8'))
        if made: place[f'solopose.{made[1]}'] = k
    return place


def test_chapters_of_the_paper_import_only_earlier_ones():
    "The chapters that stand flat, and the losses between them, can be read from the front."
    place = place_in_book()
    late = [f'{a} is read before {b}' for a, b, _ in imports()
            if a.count('.') == 1 and place[a] <= place[b] and not in_function(a, b)]
    assert not late, '\n'.join(late)


def in_function(a, b):
    "Is b imported by a inside functions only, for use and not for understanding?"
    path = ROOT / (a.replace('.', '/') + '.py')
    top = [s for n in ast.parse(path.read_text(encoding='utf-8')).body if isinstance(n, (ast.Import, ast.ImportFrom)) for s in sources(n, path)]
    return not any(base == b or f'{base}.{name}' == b for base, name in top)


def test_numbers_rise_within_a_folder():
    "Notebooks of a folder are listed by their numbers, and no number is there twice; tutorials have none."
    listed = re.findall(r'^\s*- ([\w./-]+\.ipynb)\s*$', (ROOT / '_quarto.yml').read_text(encoding='utf-8'), re.M)
    folders = defaultdict(list)
    for p in map(Path, listed):
        if p.stem[0].isdigit(): folders[p.parent].append(p.stem.split('_')[0])
    for folder, numbers in folders.items():
        assert numbers == sorted(set(numbers), key=lambda n: (int(re.match(r'\d+', n)[0]), n)), f'{folder}: {numbers}'


def crowded(source):
    "Lines of more than 110 characters, and lines on which a second statement of a block begins."
    lines = source.splitlines()
    blocks = [getattr(n, k, []) for n in ast.walk(ast.parse(source)) for k in ('body', 'orelse', 'finalbody')]
    second = [b.lineno for block in blocks if isinstance(block, list) for a, b in zip(block, block[1:]) if a.end_lineno == b.lineno]
    return [l for l in lines if len(l) > 110] + [lines[n - 1] for n in second]


def test_exported_lines_are_short_and_hold_one_statement():
    wrong = [f'{path.relative_to(ROOT)} cell {k}: {l.strip()}' for path in NOTEBOOKS for k, source, _ in cells(path)
             if EXPORT.search(source) for l in crowded(source)]
    assert not wrong, '\n'.join(wrong)


def test_a_crowded_line_is_found():
    assert crowded('a = 1; b = 2') == ['a = 1; b = 2'] and crowded('if a:\n    b(); c()') == ['    b(); c()']
    assert crowded('x' * 111) and not crowded('if a: b()\nelse: c()')
