"""JupyterLab opens each reading notebook, and "Run All Cells" ends without an error, with outputs like those that are stored.

A server of its own works on a copy, so nothing here changes. They run with `pytest --slow`."""
import asyncio, json, os, re, shutil, socket, subprocess, sys, time, urllib.request
import pytest
from conftest import ROOT
from test_browser import Page, browser_path, choreographer

pytest.importorskip('jupyterlab', reason='JupyterLab is missing: pip install jupyterlab')
pytestmark = pytest.mark.filterwarnings('ignore')
READING = '00_skeleton 01_kabsch 02_universal 03_cameras 04_mixture 04f_heatpose 05_spatial 06_temporal 07a_network 08_metrics'.split()
LAB = ['--no-browser', '--allow-root', '--ServerApp.token=here', '--LabApp.expose_app_in_browser=True',
       '--ServerApp.port_retries=0', '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
READY = "globalThis.jupyterapp?.shell?.currentWidget?.context?.isReady && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
START = "globalThis.ended = null; jupyterapp.commands.execute('notebook:run-all-cells').then(r => {globalThis.ended = 'done'}, e => {globalThis.ended = String(e)}); 1"
NOTEBOOK = 'JSON.stringify(jupyterapp.shell.currentWidget.content.model.toJSON())'
# cells that lie outside of the window are taken off the page, and their figures with them
WHOLE = "const seen = jupyterapp.shell.currentWidget.content; seen.notebookConfig = {...seen.notebookConfig, windowingMode: 'none'}; 1"
DRAWN = "document.querySelectorAll('.jp-OutputArea-output .js-plotly-plot, .jp-OutputArea-output img').length"


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A JupyterLab server on a copy of the reading notebooks: its address."
    home = tmp_path_factory.mktemp('lab') / 'copy'
    home.mkdir()
    recordings = ROOT.parent / 'shared'  # some cells read real recordings from beside the checkout, if they are there
    if recordings.exists(): (home.parent / 'shared').symlink_to(recordings, target_is_directory=True)
    unread = lambda folder, names: [n for n in names if n.endswith('.ipynb') and n[:-6] not in READING] + ['.ipynb_checkpoints']
    shutil.copytree(ROOT / 'nbs', home / 'nbs', ignore=unread)
    shutil.copytree(ROOT / 'solopose', home / 'solopose', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'settings.ini', home)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = {**os.environ, 'PYTHONPATH': str(home), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
           **{f'JUPYTER_{k}': str(home / k.lower()) for k in ('CONFIG_DIR', 'DATA_DIR', 'RUNTIME_DIR')}}
    env.pop('IN_TEST', None)
    with open(home / 'log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', f'--ServerApp.port={port}', f'--ServerApp.root_dir={home}', *LAB],
                                  cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert server.poll() is None, (home / 'log').read_text()[-2000:]
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api?token=here', timeout=5).close(); break
            except OSError: time.sleep(.5)
        yield f'http://127.0.0.1:{port}/lab/tree/nbs'
    finally:
        server.terminate()
        server.wait(30)


async def run_all(url):
    "The notebook after Run All, and the number of figures and pictures on the screen."
    async with choreographer.Browser(headless=True, path=browser_path()) as browser:
        p = Page(await browser.create_tab('', window=True))
        await p.send('Page.enable')
        await p.send('Emulation.setDeviceMetricsOverride', width=1200, height=900, deviceScaleFactor=1, mobile=False)
        await p.send('Page.navigate', url=url)
        assert await p.until(READY, 180), 'JupyterLab or its kernel did not start'
        await p.js(WHOLE)
        await p.js(START)
        assert await p.until('globalThis.ended', 1500), 'Run All did not end'
        assert await p.js('globalThis.ended') == 'done'
        await p.until(f'{DRAWN} > 0', 60)
        return json.loads(await p.js(NOTEBOOK)), await p.js(DRAWN)


def joined(text): return text if isinstance(text, str) else ''.join(text)


def shape(out):
    "What an output is, and its words without numbers and blanks, which differ from run to run."
    if out['output_type'] == 'error': return 'error', f"{out['ename']}: {out['evalue']}"
    if out['output_type'] == 'stream': return out['name'], words(out['text'])
    data = out['data']
    return tuple(sorted(k for k in data if k != 'image/png' or len(data) == 1)), words(data.get('text/plain', ''))


def words(text): return re.sub(r'[^a-z]+', ' ', re.sub(r'0x[0-9a-f]+|\d[\d.e+-]*', '', joined(text).lower())).strip()


def shapes(cell):
    "What a cell printed, however many pieces it came in, and its other outputs."
    found = [s for s in map(shape, cell.get('outputs', [])) if s[0] != 'stderr']
    said = ' '.join(text for name, text in found if name == 'stdout')
    return [('stdout', said), *(s for s in found if s[0] != 'stdout')]


@pytest.mark.slow  # each takes minutes on two cores
@pytest.mark.parametrize('name', READING)
def test_run_all(lab, name):
    stored = json.loads((ROOT / 'nbs' / f'{name}.ipynb').read_text(encoding='utf-8'))
    began = time.time()
    ran, drawn = asyncio.run(run_all(f'{lab}/{name}.ipynb?token=here&reset'))
    print(f'{name}: {time.time() - began:.0f} s')
    code = [[c for c in nb['cells'] if c['cell_type'] == 'code'] for nb in (stored, ran)]
    assert len(code[0]) == len(code[1])
    assert all(c['execution_count'] for c in code[1] if joined(c['source']).strip()), 'a cell was not run'
    errors = [(c['id'], s) for c in code[1] for s in shapes(c) if s[0] == 'error']
    assert errors == []
    other = [(a['id'], shapes(a), shapes(b)) for a, b in zip(*code) if shapes(a) != shapes(b)]
    assert other == [], '\n'.join(map(str, other))
    assert drawn > 0, 'no figure on the screen'
