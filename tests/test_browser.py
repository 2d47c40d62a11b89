"""A saved pose player, in a real Chromium: both panels show, the slider moves both, it plays, and nothing asks the network.

The browser is driven over its own pipe with choreographer, which comes with kaleido. A notebook cannot test this."""
import asyncio, base64, io, time
import numpy as np
import pytest
from PIL import Image
from solopose.poses import pose_dataset
from solopose.skeleton import standing_pose
from solopose.viz import browser_path, pose_player, save_html

choreographer = pytest.importorskip('choreographer', reason='the browser is driven with choreographer: pip install kaleido')
if not browser_path(): pytest.skip('no Chromium or Chrome found: install one, or set BROWSER_PATH', allow_module_level=True)
pytestmark = pytest.mark.filterwarnings('ignore')
SIZE, FRAMES, FPS = (1000, 560), 20, 10.


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    "A page whose video turns from black to white while the skeleton lifts its arms."
    poses = np.repeat(standing_pose()[None], FRAMES, 0)
    raised = np.linspace(0, -900, FRAMES)[:, None]
    ds = pose_dataset(poses, fps=FPS)
    for joint, part in ('l_wrist', 1), ('r_wrist', 1), ('l_elbow', .4), ('r_elbow', .4): ds.position.loc[dict(keypoints=joint, space='y')] += raised * part
    frames = (np.full((180, 240, 3), 250 * k // (FRAMES - 1), 'uint8') for k in range(FRAMES))
    return save_html(pose_player(ds, frames, title='test'), tmp_path_factory.mktemp('browser')/'poses.html')


class Page:
    "The few things done with a page."
    def __init__(self, tab): self.tab = tab

    async def send(self, method, **params):
        reply = await asyncio.wait_for(self.tab.send_command(method, params=params), 60)
        assert 'error' not in reply, reply
        return reply['result']

    async def js(self, text): return (await self.send('Runtime.evaluate', expression=text, returnByValue=True, awaitPromise=True))['result'].get('value')

    async def shot(self):
        await self.js('new Promise(r => setTimeout(r, 500))')
        return Image.open(io.BytesIO(base64.b64decode((await self.send('Page.captureScreenshot', format='png'))['data']))).convert('RGB')

    async def click(self, x, y):
        for kind in 'mousePressed', 'mouseReleased': await self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    async def centre(self, selector, text=''):
        return await self.js(f"(() => {{const e = [...document.querySelectorAll('{selector}')].find(e => e.textContent.includes('{text}')).getBoundingClientRect(); return [e.left, e.top, e.width, e.height]}})()")


async def visit(page):
    "Everything the tests look at, from one visit."
    asked, errors, seen = [], [], {}
    async def request(m): asked.append(m['params']['request']['url'])
    async def trouble(m): errors.append(str(m['params']))
    async with choreographer.Browser(headless=True, path=browser_path()) as browser:
        tab = await browser.create_tab('', window=True)
        tab.subscribe('Network.requestWillBeSent', request)
        tab.subscribe('Runtime.exceptionThrown', trouble)
        p = Page(tab)
        for domain in 'Network', 'Runtime', 'Page': await p.send(f'{domain}.enable')
        await p.send('Emulation.setDeviceMetricsOverride', width=SIZE[0], height=SIZE[1], deviceScaleFactor=1, mobile=False)
        await p.send('Page.navigate', url=page.as_uri())
        for _ in range(120):
            if await p.js("document.querySelector('#solopose canvas') !== null && document.querySelector('#solopose image') !== null"): break
            await asyncio.sleep(.5)
        state = "JSON.stringify([document.querySelector('#solopose image').getAttribute('href') || document.querySelector('#solopose image').getAttribute('xlink:href'), document.getElementById('solopose').data.map(t => t.z && Array.from(t.z))])"
        seen['first'], seen['state'] = await p.shot(), await p.js(state)
        seen['buttons'] = await p.js("[...document.querySelectorAll('.modebar-btn')].map(b => b.getAttribute('data-title'))")
        x, y, w, h = await p.centre('.slider-rail-touch-rect')
        await p.click(x + .9 * w, y + h / 2)
        seen['moved'], seen['moved_state'] = await p.shot(), await p.js(state)
        await p.click(x + 2, y + h / 2)
        seen['back'] = await p.shot()
        x, y, w, h = await p.centre('.updatemenu-button', 'play')
        t = time.time()
        await p.js("window.done = new Promise(r => document.getElementById('solopose').on('plotly_animated', () => r(1))); 1")
        await p.click(x + w / 2, y + h / 2)
        await p.js('window.done')
        seen['seconds'], seen['played'] = time.time() - t, await p.shot()
    return seen | dict(asked=asked, errors=errors)


@pytest.fixture(scope='module')
def seen(page): return asyncio.run(visit(page))


def change(a, b, side):
    "Mean grey difference of the left (video) or right (skeleton) panel, and the share of changed pixels."
    w, h = SIZE
    box = (0, 40, int(.45 * w), 380) if side == 'left' else (int(.5 * w), 60, int(.85 * w), 400)
    d = np.abs(np.asarray(a.crop(box), int) - np.asarray(b.crop(box), int)).max(-1)
    return d.mean(), (d > 40).mean()


def test_both_panels_show(seen):
    a = np.asarray(seen['first'], int)
    assert (a[60:380, 50:430].max(-1) < 40).mean() > .3, 'the first, black frame of the video is not shown'
    skeleton = a[60:400, 500:850]
    for name, rgb in ('left', (31, 119, 180)), ('right', (230, 97, 1)):
        assert (np.abs(skeleton - rgb).max(-1) < 60).sum() > 100, f'no {name} limbs drawn'


def test_slider_moves_both(seen):
    assert change(seen['first'], seen['moved'], 'left')[0] > 50
    assert change(seen['first'], seen['moved'], 'right')[1] > .002
    assert seen['state'] != seen['moved_state']
    assert change(seen['first'], seen['back'], 'left')[0] < 1 and change(seen['first'], seen['back'], 'right')[1] < .002


def test_plays_to_the_end_in_time(seen):
    assert change(seen['first'], seen['played'], 'left')[0] > 50 and change(seen['first'], seen['played'], 'right')[1] > .002
    assert (FRAMES - 1) / FPS * .8 < seen['seconds'] < 60


def test_no_button_uploads(seen):
    assert seen['buttons'] and not [b for b in seen['buttons'] if 'cloud' in b.lower() or 'share' in b.lower() or 'link' in b.lower()]


def test_no_network_and_no_error(seen):
    assert [u[:80] for u in seen['asked'] if not u.startswith(('file:', 'data:', 'blob:'))] == []
    assert sum(u.startswith('file:') for u in seen['asked']) == 1
    assert seen['errors'] == []
