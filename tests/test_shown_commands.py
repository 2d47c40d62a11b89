"Every command that a notebook or README.md shows has the options that it really has."
import configparser, importlib, re, shlex
import pytest
from conftest import NOTEBOOKS, ROOT, cells
from solopose.cli import join_negative, make_parser

INI = configparser.ConfigParser(interpolation=None)
INI.read(ROOT / 'settings.ini')
POINTS = dict(line.strip().split('=') for line in INI['DEFAULT']['console_scripts'].splitlines())


def shown(text):
    "Commands in lines of their own and in `code` of Markdown; lines that go on are joined."
    text = re.sub(r'\\\n\s*', '', text)
    yield from re.findall(r'^(?:    +|\$ )?(solopose_\w+(?: .*)?)$', text, re.M)
    yield from re.findall(r'`(solopose_\w+ [^`\n]+)`', text)


def pages():
    "Name and Markdown of notebooks, README.md and the guides for those who help."
    for p in NOTEBOOKS: yield p, '\n'.join(source for _, source, _ in cells(p, 'markdown'))
    for name in 'README.md', 'CONTRIBUTING.md': yield ROOT / name, (ROOT / name).read_text()


FOUND = sorted({(p.relative_to(ROOT).as_posix(), c) for p, text in pages() for c in shown(text)})


def test_some_are_shown(): assert len(FOUND) > 30  # the pattern still finds them


@pytest.mark.parametrize('page, line', FOUND, ids=[f'{p}: {c[:50]}' for p, c in FOUND])
def test_command_parses(page, line):
    "The line is taken by the parser of its command."
    name, *argv = shlex.split(line, comments=True)
    argv = argv[:next((i for i, a in enumerate(argv) if a in ('|', '>', '&&', ';', '2>&1', '&')), len(argv))]
    module, f = POINTS[name].split(':')
    if {'--help', '--version', '...'} & set(argv): return
    make_parser(getattr(importlib.import_module(module), f), name).parse_args(join_negative(argv))
