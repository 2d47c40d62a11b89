"Numbers in prose, in the README and in stored outputs, against the records and the networks that they speak of."
import csv
import json
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / 'nbs/records'


def record(name):
    return json.loads((RECORDS / f'{name}.json').read_text())


def runs():
    "The runs that made the shipped weights: frames seen, and the last error on the first held-out clips, mm."
    r, out = record('solopose-tiny'), []
    for run in [*r['earlier'], dict(r, curve='solopose-tiny.csv')]:
        rows = [x for x in csv.DictReader(open(RECORDS / run['curve'])) if x['val_mpjpe']]
        out.append((run['recipe']['steps'] * run['recipe']['batch'], float(rows[-1]['val_mpjpe'])))
    return out


@lru_cache
def millions(model):
    "Parameters of a network, in millions."
    import torch
    from solopose.model import create_model
    with torch.device('meta'): net = create_model(model)
    return sum(p.numel() for p in net.parameters()) / 1e6


def number(text):
    return float(text.replace(',', '').replace('\u202f', ''))


def held_out(clips, frames, people):
    r = record('solopose-tiny-eval')
    return (number(clips), number(frames), number(people)) == (r['clips'], r['frames'], r['people'])


def second_run(times, percent):
    (few, before), (more, after) = runs()
    return number(times) == round(more / few, 1) and number(percent) == round(100 * (1 - after / before))


def both_runs(times, percent):
    (few, before), (more, after) = runs()
    return number(times) == round((few + more) / few, 1) and number(percent) == round(100 * (1 - after / before))


def answer(name, mpjpe, p_mpjpe):
    e = record('solopose-tiny-eval')['overall'][name]
    return (number(mpjpe), number(p_mpjpe)) == (e['mpjpe'], e['p_mpjpe'])


def below(mpjpe, p_mpjpe):
    e = record('solopose-tiny-eval')['overall']
    share = lambda k: round(100 * (1 - e['model'][k] / e['constant pose'][k]))
    return (number(mpjpe), number(p_mpjpe)) == (share('mpjpe'), share('p_mpjpe'))


def small_below(low, high, p_low, p_high):
    "How far solopose-small lies below the 3D head of the network that it stands on, % of two films."
    r = record('solopose-small-validation')
    ours, head = r['rows']['boxes given'], r['beside']['BlazePose full, its own 3D head']
    less = [[100 * (1 - ours[s][k] / head[s][i]) for s in ('cg', 'upper')] for i, k in enumerate(('MPJPE', 'P-MPJPE'))]
    return [[round(v) for v in sorted(x)] for x in less] == [[int(low), int(high)], [int(p_low), int(p_high)]]


def small_run(frames, words):
    "Frames that solopose-small has looked at in one of its runs, and the minutes, in words."
    numbers = 'zero one two three four five six seven eight nine ten'.split()
    done = [record(f'solopose-small{k}') for k in ('', '-2', '-3')]
    told = [(round(r['frames'] / 1e6, 1), round(r['seconds'] / 60)) for r in done]
    return words in numbers and (float(frames), numbers.index(words)) in told


def as_recorded(name, key, unit=1.):
    "A form whose one number is that of a record."
    return lambda said: number(said) == round(record(name)[key] / unit, len(said.partition('.')[2]))


# What is said, wherever it is said -> whether the records agree. Every form is said somewhere, see the last test.
CLAIMS = {
    r'(\d+) held-out clips \(([\d,]+) frames\) of (\d+) people': held_out,
    r'(\d+) clips, (\d+) frames, (\d+) people; weights of step': held_out,
    r'([\d.]+) times (?:as many frames as the first|the frames of the first),? (?:and )?took (\d+) % off': second_run,
    r'([\d.]+) times the frames took (\d+) % off': both_runs,
    r'([\d,]+) frames seen\'': lambda n: number(n) == sum(frames for frames, _ in runs()),
    r'of step (\d+); 20': lambda n: number(n) == record('solopose-tiny-eval')['steps'],
    r'weights of ([\d,]+) steps of the second run': lambda n: number(n) == record('solopose-tiny')['recipe']['steps'],
    r'\| (constant pose|mean pose|zero motion) \| ([\d.]+) \| ([\d.]+) \|': answer,
    r"'model': '(solopose-\w+)', 'parameters': '([\d.]+) M'": lambda model, n: number(n) == round(millions(model), 1),
    r'\| (solopose-(?:tiny|base|paper)) \| ([\d.]+) M \|': lambda model, n: number(n) == round(millions(model), 1),
    r'errors lie (\d+) to (\d+) % below those of BlazePose\'s own head in MPJPE and (\d+) to (\d+) % in P-MPJPE': small_below,
    r'([\d.]+) million looked at in (\w+) minutes': small_run,
    r'half a million frames (?:drawn|that the shipped `solopose-small`)()': lambda _: round(record('solopose-small')['layers'] / 1e6, 1) == .5,
    r"'frames': (\d+), 'layers': \d{4}": lambda n: int(n) in [record(f'solopose-small{k}')['frames'] for k in ('', '-2', '-3')],
    r'([\d,]+) frames drawn by \d+ processes': as_recorded('solopose-small', 'layers'),
    r'drawn by (\d+) processes, \d+ per second': lambda n: int(n) == record('solopose-small')['options']['procs'],
    r'`?solopose_augmotion`?\]?(?:\([^)]*\))?; ([\d.]+) million frames': as_recorded('augmotion-7m', 'frames', 1e6),
    r'million poses on disk, as ([\d,]+) takes': as_recorded('augmotion-7m', 'takes'),
    r'installation then takes ([\d.]+) GB of disk': as_recorded('installation', 'gigabytes with torch for the CPU'),
    r'GB of disk instead of ([\d.]+) GB': as_recorded('installation', 'gigabytes with torch for CUDA'),
    r'wheel of solopose itself has (\d+) MB': as_recorded('installation', 'megabytes of the wheel'),
    r'mm \(95 % interval [\d.]+ to [\d.]+\): (\d+) % below the constant pose; P-MPJPE [\d.]+ mm: (\d+) %': below,
}


@lru_cache
def texts(): return list(read_texts())


def read_texts():
    "Prose and stored text outputs: (where, text)."
    yield 'README.md', (ROOT / 'README.md').read_text()
    for f in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        if 'checkpoint' in str(f.parent): continue
        for cell in json.loads(f.read_text())['cells']:
            where = f'{f.relative_to(ROOT)} cell {cell["id"]}'
            if cell['cell_type'] == 'markdown': yield where, ''.join(cell['source'])
            for o in cell.get('outputs', []):
                data = o.get('data', {})
                for text in (o.get('text'), data.get('text/plain'), data.get('text/markdown')):
                    if text: yield where, ''.join(text)


def test_no_number_contradicts_the_records():
    wrong = [f'{where}: {m[0]!r}' for where, text in texts() for form, agrees in CLAIMS.items()
             for m in re.finditer(form, text) if not agrees(*m.groups())]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('form', CLAIMS)
def test_every_form_is_said_somewhere(form):
    assert any(re.search(form, text) for _, text in texts()), form


@pytest.mark.parametrize('said', ["'model': 'solopose-paper', 'parameters': '91.8 M'", '256 held-out clips (2,048 frames) of 30 people'])
def test_a_wrong_number_is_found(said):
    assert [agrees(*m.groups()) for form, agrees in CLAIMS.items() for m in re.finditer(form, said)] == [False]
