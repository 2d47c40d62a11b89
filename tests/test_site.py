"""The website that `python .ci/docs.py` builds, in a real Chromium: pages, search, a figure that turns, formulas, a phone.

It is served from this machine, and every address elsewhere is refused. `SOLOPOSE_SITE` names another folder than `_docs`."""
import asyncio, functools, http.server, os, threading
from pathlib import Path
import numpy as np
import pytest
from conftest import ROOT
from test_browser import Page, browser_path, choreographer

SITE = Path(os.environ.get('SOLOPOSE_SITE', ROOT / '_docs'))
if not (SITE / 'index.html').exists(): pytest.skip('no website: build it with `python .ci/docs.py`', allow_module_level=True)
pytestmark = pytest.mark.filterwarnings('ignore')
PAGES = 'skeleton', 'kabsch', 'universal', 'mixture', 'temporal', 'metrics'
TURNS = 'heatpose'
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 80))"
WIDE = 'document.documentElement.scrollWidth - innerWidth'
EYE = "JSON.stringify(document.querySelector('.in-space')._fullLayout.scene._scene.getCamera().eye)"
TYPE = "(() => {const i = [...document.querySelectorAll('input[type=search]')].find(i => i.offsetParent); i.focus(); i.value = 'mirror'; i.dispatchEvent(new Event('input', {bubbles: true}))})()"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


@pytest.fixture(scope='module')
def address():
    "The site, served on a free port."
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


async def open_page(p, url):
    "Go there and wait for everything that the page loads."
    await p.send('Page.navigate', url=url)
    assert await p.until(f"location.href.startsWith('{url}') && document.readyState === 'complete'"), url
    await p.js('new Promise(r => setTimeout(r, 300))')


async def at_size(p, width, height, mobile): await p.send('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=mobile)


async def turned(p, address):
    "The eye of the first figure in space before and after the mouse has dragged it, and both pictures."
    await open_page(p, f'{address}/{TURNS}.html')
    assert await p.until("!!document.querySelector('.in-space canvas')"), 'no figure in space was drawn'
    await p.js("document.querySelector('.in-space').scrollIntoView({block: 'center', behavior: 'instant'})")
    before, one = await p.shot(), await p.js(EYE)
    left, top, right, bottom = await p.box('.in-space canvas')
    x, y = (left + right) // 2, (top + bottom) // 2
    await p.mouse('mouseMoved', x, y, button='none')
    await p.mouse('mousePressed', x, y, buttons=1)
    for k in range(1, 9):
        await p.mouse('mouseMoved', x + 10 * k, y, buttons=1)
        await asyncio.sleep(.05)
    await p.mouse('mouseReleased', x + 80, y)
    after = await p.shot()
    return dict(before=before, after=after, eyes=(one, await p.js(EYE)), place=(left, top, right, bottom))


async def visit(address):
    "Everything the tests look at, from one visit."
    asked, errors, seen = [], [], {}
    async def request(m): asked.append(m['params']['request']['url'])
    async def trouble(m): errors.append(str(m['params'])[:400])
    async def said(m):
        if m['params']['type'] in ('error', 'assert'): errors.append(str(m['params']['args'])[:400])
    async def logged(m):
        if m['params']['entry']['level'] == 'error': errors.append(str(m['params']['entry'])[:400])
    async with choreographer.Browser(headless=True, path=browser_path()) as browser:
        tab = await browser.create_tab('', window=True)
        for event, f in (('Network.requestWillBeSent', request), ('Runtime.exceptionThrown', trouble),
                         ('Runtime.consoleAPICalled', said), ('Log.entryAdded', logged)): tab.subscribe(event, f)
        p = Page(tab)
        for domain in 'Network', 'Runtime', 'Page', 'Log': await p.send(f'{domain}.enable')
        await p.send('Network.setBlockedURLs', urls=['https://*'])
        await at_size(p, 1200, 900, False)
        for name in ('index', *PAGES):
            await open_page(p, f'{address}/{name}.html')
            seen[name] = await p.js(f"({{title: document.querySelector('h1').textContent, words: document.body.innerText.length, broken: {BROKEN},"
                                    " formulas: document.querySelectorAll('.katex').length, wrong: document.querySelectorAll('.katex-error').length,"
                                    " loose: /\\$\\$|\\\\begin\\{/.test(document.querySelector('main').innerText)})")
        await open_page(p, f'{address}/index.html')
        await p.js(TYPE)
        await p.until("!!document.querySelector('a.search-result')", 20)
        seen['found'] = await p.js("[...document.querySelectorAll('a.search-result')].map(a => a.getAttribute('href'))")
        await p.js("document.querySelector('a.search-result').click()")
        seen['went'] = await p.until("!location.pathname.endsWith('index.html') && document.readyState === 'complete'", 20)
        seen['turned'] = await turned(p, address)
        await at_size(p, 390, 844, True)
        for name in ('index', *PAGES, TURNS):
            await open_page(p, f'{address}/{name}.html')
            seen['phone', name] = await p.js(WIDE)
            if shots: (await p.shot()).save(Path(shots) / f'phone_{name}.png')
    return seen | dict(asked=asked, errors=errors)


shots = os.environ.get('SOLOPOSE_SHOTS')   # a folder for screenshots to look at


@pytest.fixture(scope='module')
def seen(address): return asyncio.run(visit(address))


@pytest.mark.parametrize('name', ['index', *PAGES])
def test_page_is_there(seen, name):
    page = seen[name]
    assert page['title'] and page['words'] > 2000
    assert page['broken'] == []


@pytest.mark.parametrize('name', ['kabsch', 'universal', 'mixture', 'metrics'])
def test_formulas_are_set(seen, name):
    page = seen[name]
    assert page['formulas'] > 3 and page['wrong'] == 0
    assert not page['loose'], 'a formula is shown as its source'


def test_search_finds(seen):
    assert any('poses.html' in href for href in seen['found']), seen['found']
    assert seen['went'], 'the first hit leads nowhere'


def test_a_figure_turns_under_the_mouse(seen):
    t = seen['turned']
    assert t['eyes'][0] and t['eyes'][0] != t['eyes'][1], t['eyes']
    change = np.abs(np.asarray(t['before'].crop(t['place']), int) - np.asarray(t['after'].crop(t['place']), int)).max(-1)
    assert (change > 40).mean() > .005


@pytest.mark.parametrize('name', ['index', *PAGES, TURNS])
def test_fits_a_phone(seen, name): assert seen['phone', name] <= 1, f"{seen['phone', name]} px too wide"


def test_no_error_and_nothing_from_elsewhere(seen, address):
    assert seen['errors'] == []
    assert [u[:90] for u in seen['asked'] if not u.startswith((address, 'data:', 'blob:'))] == []
