//! The page in a real browser: it must fit the screen, its links and filters must work, and nothing may be loaded
//! from elsewhere. Pictures of it are kept, since only eyes see whether it is good to read.
//!
//! Chromium is driven through its DevTools protocol over two pipes (`--remote-debugging-pipe`): messages are JSON and
//! end with a NUL byte.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::PAGE;
use kpatch_build::outcome::Ending;
use kpatch_build::sh;
use kpatch_build::ui::Ui;

/// How a picture is taken: name, width, height, colour scheme.
const VIEWS: [(&str, u32, u32, &str); 4] = [
    ("light", 1280, 900, "light"),
    ("dark", 1280, 900, "dark"),
    ("phone-light", 390, 844, "light"),
    ("phone-dark", 390, 844, "dark"),
];

/// What must be true of the page, as JavaScript that gives an empty text or what is wrong.
const CHECKS: [(&str, &str); 6] = [
    (
        "the page is no wider than the screen",
        "document.documentElement.scrollWidth <= innerWidth ? '' : `${document.documentElement.scrollWidth} wide on ${innerWidth}`",
    ),
    (
        "nothing is loaded from elsewhere",
        "performance.getEntriesByType('resource').map((entry) => entry.name).join(' ')",
    ),
    (
        "every link leads to a case",
        "(() => { for (const link of document.querySelectorAll('.grid a')) { \
         if (!(document.getElementById(link.hash.slice(1)) instanceof HTMLDetailsElement)) return link.hash; } return ''; })()",
    ),
    (
        // A browser slows pages down that go to hundreds of places at once.
        "a link opens its case",
        "(() => { const links = [...document.querySelectorAll('.grid a')]; const each = Math.ceil(links.length / 20); \
         for (const link of links.filter((_, index) => index % each === 0)) { location.hash = link.hash; \
         dispatchEvent(new Event('hashchange')); \
         if (!document.getElementById(link.hash.slice(1)).open) return link.hash; } return ''; })()",
    ),
    (
        "the search leaves exactly the cases it names",
        "(() => { const rows = [...document.querySelectorAll('.grid tbody tr')]; const name = rows[0].dataset.case; \
         const find = document.getElementById('find'); find.value = name; find.dispatchEvent(new Event('input')); \
         const left = rows.filter((row) => !row.hidden).map((row) => row.dataset.case); find.value = ''; \
         find.dispatchEvent(new Event('input')); const back = rows.every((row) => !row.hidden); \
         return left.includes(name) && left.every((one) => one.includes(name)) && back ? '' : left.join(' '); })()",
    ),
    (
        "a press on an outcome leaves exactly its cases",
        "(() => { for (const button of document.querySelectorAll('.count')) { button.click(); \
         for (const row of document.querySelectorAll('.grid tbody tr')) { \
         const has = !!row.querySelector(`td[data-outcome='${button.dataset.outcome}']`); \
         if (has === row.hidden) return button.dataset.outcome + ' ' + row.dataset.case; } button.click(); } return ''; })()",
    ),
];

/// Opens the page of a report; the pictures go beside it, or into a folder of their own.
pub fn check(report: &Path, pictures: Option<&Path>, ui: &Ui) -> Result<()> {
    let page = report.join(PAGE);
    let page = page
        .canonicalize()
        .with_context(|| format!("there is no {}", page.display()))?;
    let pictures = pictures.unwrap_or(report);
    fs::create_dir_all(pictures).with_context(|| format!("cannot make {}", pictures.display()))?;
    let mut browser = Browser::start()?;
    for (name, width, height, scheme) in VIEWS {
        browser.view(width, height, scheme)?;
        browser.open(&page)?;
        let picture = pictures.join(format!("report-{name}.png"));
        browser.picture(&picture)?;
        for (what, check) in CHECKS {
            let wrong = browser.evaluate(check)?;
            ensure!(wrong.as_str() == Some(""), "{name}: not true that {what}: {wrong}");
        }
        // The first case of all, opened: what most readers look at next. The page scrolls there smoothly, in its own time.
        browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'; location.hash = document.querySelector('.grid a').hash; ''")?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        browser.evaluate("document.querySelector('.case:target').scrollIntoView({behavior: 'instant'}); ''")?;
        browser.picture(&pictures.join(format!("report-{name}-case.png")))?;
        ui.note(format!(
            "{name} ({width} x {height}): {} checks, {}",
            CHECKS.len(),
            picture.display()
        ));
    }
    Ok(())
}

/// A running Chromium. Dropping it ends it.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u64,
    /// The tab that commands go to.
    tab: Option<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Result<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let program = names.into_iter().find(|name| sh::find(name).is_some());
        let program =
            program.ok_or_else(|| Ending::infrastructure("there is no chromium: install the package chromium"))?;
        let profile = tempfile::tempdir().context("cannot make a folder for the browser")?;
        // The shell puts the two pipes where the browser looks for them: descriptors 3 and 4.
        let mut command = sh::command("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 >/dev/null 2>&1 </dev/null", "sh", program]);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-gpu",
            "--hide-scrollbars",
        ]);
        // Root, and containers that forbid user namespaces, cannot have its sandbox; the page is our own.
        command.args([
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the browser")?;
        let to = child.stdin.take().context("the browser has no input")?;
        let from = BufReader::new(child.stdout.take().context("the browser has no output")?);
        let mut browser = Browser {
            child,
            to,
            from,
            next: 0,
            tab: None,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &attach)?;
        browser.tab = session["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", &json!({}))?;
        Ok(browser)
    }

    /// Sends a command and waits for its answer; events in between do not matter.
    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.send(method, params)?;
        let id = self.next;
        loop {
            let message = self.receive()?;
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("the browser refuses {method}: {error}");
                }
                return Ok(message["result"].clone());
            }
        }
    }

    fn send(&mut self, method: &str, params: &Value) -> Result<()> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(tab) = &self.tab {
            message["sessionId"] = json!(tab);
        }
        let mut bytes = serde_json::to_vec(&message).context("cannot write down a command")?;
        bytes.push(0);
        self.to.write_all(&bytes).context("the browser does not listen")
    }

    fn receive(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).context("cannot hear the browser")?;
        ensure!(bytes.pop() == Some(0), "the browser ended");
        serde_json::from_slice(&bytes).context("the browser does not speak JSON")
    }

    fn view(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let mobile = width < 600;
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", &screen)?;
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &feature).map(drop)
    }

    fn open(&mut self, page: &Path) -> Result<()> {
        // A page that differs only behind the # would not be loaded again.
        self.call("Page.navigate", &json!({"url": "about:blank"}))?;
        self.send("Page.navigate", &json!({"url": format!("file://{}", page.display())}))?;
        let (id, mut answered, mut loads) = (self.next, false, 0);
        while !(answered && self.is_ready(&mut loads)?) {
            if !answered {
                let message = self.receive()?;
                answered = message["id"] == id;
            }
        }
        Ok(())
    }

    /// Asks the page itself, which cannot be early: a load event may belong to the empty page before.
    fn is_ready(&mut self, asked: &mut u32) -> Result<bool> {
        *asked += 1;
        ensure!(*asked < 600, "the page is not loaded after 60 s");
        let state = self.evaluate("location.protocol + document.readyState")?;
        let ready = state.as_str() == Some("file:complete");
        if !ready {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(ready)
    }

    fn evaluate(&mut self, script: &str) -> Result<Value> {
        let answer = self.call(
            "Runtime.evaluate",
            &json!({"expression": script, "returnByValue": true}),
        )?;
        if let Some(problem) = answer.get("exceptionDetails") {
            bail!("the page's script failed: {problem}");
        }
        Ok(answer["result"]["value"].clone())
    }

    fn picture(&mut self, path: &Path) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = answer["data"].as_str().context("the browser took no picture")?;
        let bytes = decoded(data).ok_or_else(|| anyhow!("the picture is not base64"))?;
        ensure!(bytes.starts_with(b"\x89PNG"), "the picture is no PNG");
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for (index, &byte) in group.iter().enumerate() {
            bits |= u32::from(value(byte)?) << (18 - 6 * index);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("TQ==", b"M"),
            ("TWE=", b"Ma"),
            ("TWFu", b"Man"),
            ("TWFuTQ==", b"ManM"),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(decoded("a*"), None);
    }
}
