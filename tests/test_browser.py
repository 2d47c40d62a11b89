"""The offline page, in a real Chromium without a network: it draws film, skeletons and curves of two people, and plays.

The browser is driven over its own pipe with choreographer, which comes with kaleido. A notebook cannot test this."""
import asyncio, base64, io
import numpy as np
import pytest
from PIL import Image
from solopose.figures import COLOURS
from solopose.poses import pose_dataset
from solopose.predict.page import save_page
from solopose.skeleton import standing_pose
from solopose.viz import browser_path

choreographer = pytest.importorskip('choreographer', reason='the browser is driven with choreographer: pip install kaleido')
if not browser_path(): pytest.skip('no Chromium or Chrome found: install one, or set BROWSER_PATH', allow_module_level=True)
pytestmark = pytest.mark.filterwarnings('ignore')
SIZE, FRAMES, FPS = (1000, 900), 40, 20.
PLAYER = "document.getElementById('solopose').player"


def two():
    "Two people, the second from frame 10 on, who lift their arms; in the film they stand side by side."
    one = np.repeat(standing_pose()[None], FRAMES, 0)
    names = list(pose_dataset(one, FPS).keypoint.values)
    for joint, part in (('l_wrist', 1), ('r_wrist', 1), ('l_elbow', .4), ('r_elbow', .4)): one[:, names.index(joint), 1] += np.linspace(0, -900, FRAMES) * part
    both = np.stack([one, one], -1)
    both[:10, ..., 1] = np.nan
    sure = np.where(np.isfinite(both[:, :, 0]), .9, 0.)
    ds = pose_dataset(both, FPS, sure)
    places = both[:, :, :2] * .09 + np.stack([[70, 90], [170, 90]], -1)
    ds['image_position'] = ('time', 'image_space', 'keypoint', 'individual'), places.swapaxes(1, 2)
    return ds


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    "A page whose film turns from black to white."
    frames = np.stack([np.full((180, 240, 3), 250 * k // (FRAMES - 1), 'uint8') for k in range(FRAMES)])
    return save_page(tmp_path_factory.mktemp('browser') / 'poses.html', two(), frames, title='two <b>people</b>')


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

    async def box(self, selector):
        "left, top, right, bottom of an element, px."
        return await self.js(f"(() => {{const r = document.querySelector('{selector}').getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom].map(Math.round)}})()")

    async def mouse(self, kind, x, y, **kw): await self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, **dict(button='left', clickCount=1) | kw)

    async def click(self, x, y):
        for kind in ('mousePressed', 'mouseReleased'): await self.mouse(kind, x, y)

    async def until(self, text, seconds=60):
        for _ in range(int(seconds * 5)):
            if await self.js(text): return True
            await asyncio.sleep(.2)


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
        await p.send('Network.emulateNetworkConditions', offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        await p.send('Emulation.setDeviceMetricsOverride', width=SIZE[0], height=SIZE[1], deviceScaleFactor=1, mobile=False)
        await p.send('Page.navigate', url=page.as_uri())
        seen['film'] = await p.until(f'{PLAYER}?.film')
        for part in 'film', 'stage', 'graph': seen[f'{part} box'] = await p.box(f'.{part}')
        for k in (0, 15, 39):
            await p.js(f'{PLAYER}.seek({k})')
            seen[k] = await p.shot()
        seen['title'] = await p.js("[document.title, document.querySelector('.head b').textContent, document.querySelectorAll('.head b b').length]")
        left, top, right, bottom = await p.box('.stage')
        await p.mouse('mousePressed', left + 50, top + 100)
        await p.mouse('mouseMoved', left + 250, top + 100, buttons=1)
        await p.mouse('mouseReleased', left + 250, top + 100)
        seen['turned'], seen['yaw'] = await p.shot(), await p.js(f'{PLAYER}.eye.yaw')
        left, top, right, bottom = await p.box('.graph')
        await p.click(left + 44 + .5 * (right - left - 52), top + 50)
        seen['clicked'] = await p.js(f'{PLAYER}.frame')
        await p.js(f'{PLAYER}.seek(0)')
        left, top, right, bottom = await p.box('.play')
        began = await p.js('performance.now()')
        await p.click((left + right) / 2, (top + bottom) / 2)
        await p.until(f'{PLAYER}.frame > 5', 20)
        seen['middle'] = await p.js(f'[{PLAYER}.frame, document.querySelector("video").currentTime]')
        await p.until(f'!{PLAYER}.playing', 40)
        seen['end'], seen['seconds'] = await p.js(f'{PLAYER}.frame'), (await p.js('performance.now()') - began) / 1000
        await p.send('Emulation.setDeviceMetricsOverride', width=390, height=844, deviceScaleFactor=2, mobile=True)
        await p.js('new Promise(r => setTimeout(r, 500))')
        seen['phone'] = await p.js("[document.documentElement.scrollWidth <= innerWidth, ...['film', 'stage', 'graph'].map(c => document.querySelector('.' + c).getBoundingClientRect().width > 300)]")
    return seen | dict(asked=asked, errors=errors)


@pytest.fixture(scope='module')
def seen(page): return asyncio.run(visit(page))


def near(seen, k, part, side, tolerance=40):
    "How many pixels of a part of the page have the colour of a side."
    a = np.asarray(seen[k].crop(seen[f'{part} box']), int)
    rgb = [int(COLOURS[side][i:i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(a - rgb).max(-1) < tolerance).sum())


def test_film_is_shown_and_moves(seen):
    assert seen['film'], 'Chromium could not play the film'
    grey = [np.median(np.asarray(seen[k].crop(seen['film box']), int)) for k in (0, 15, 39)]
    assert grey[0] < 30 and 60 < grey[1] < 140 and grey[2] > 220, grey


@pytest.mark.parametrize('part', ['film', 'stage'])
def test_two_people_left_and_right(seen, part):
    "One person in frame 0, two in frame 15: twice the lines of both colours."
    for side in 'left', 'right':
        one, two = near(seen, 0, part, side), near(seen, 15, part, side)
        assert one > 60 and 1.4 * one < two < 3.5 * one, (side, one, two)


def test_curves_are_drawn(seen):
    assert near(seen, 15, 'graph', 'left') > 50 or near(seen, 15, 'graph', 'right') > 50


def test_arms_go_up_in_space(seen):
    top = lambda k: np.flatnonzero((np.abs(np.asarray(seen[k].crop(seen['stage box']), int) - [31, 119, 180]).max(-1) < 40).any(1))[0]
    assert top(39) < top(15) - 20


def test_turns(seen):
    assert abs(seen['yaw'] - .35) > .5
    change = np.abs(np.asarray(seen[39].crop(seen['stage box']), int) - np.asarray(seen['turned'].crop(seen['stage box']), int)).max(-1)
    assert (change > 40).mean() > .005


def test_click_on_the_curves_goes_there(seen): assert abs(seen['clicked'] - FRAMES / 2) <= 2


def test_plays_to_the_end_in_time(seen):
    frame, t = seen['middle']
    assert abs(frame - t * FPS) < 3, 'limbs and film are at different moments'
    assert seen['end'] == FRAMES - 1 and (FRAMES - 1) / FPS * .8 < seen['seconds'] < 40


def test_fits_a_phone(seen): assert seen['phone'] == [True] * 4


def test_title_is_text(seen): assert seen['title'] == ['two <b>people</b>', 'two <b>people</b>', 0]


def test_no_network_and_no_error(seen):
    assert [u[:80] for u in seen['asked'] if not u.startswith(('file:', 'data:', 'blob:'))] == []
    assert sum(u.startswith('file:') for u in seen['asked']) == 1
    assert seen['errors'] == []
