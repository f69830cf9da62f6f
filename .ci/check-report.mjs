// Looks at a report as its reader does, in a headless Chromium: it must fit the screen, its links, filters and buttons must
// work, and nothing may be loaded from elsewhere. Pictures of it are kept, since only eyes see whether it is good to read.
// Usage: node .ci/check-report.mjs REPORT-FOLDER [PICTURE-FOLDER]
//
// Chromium is driven through its DevTools protocol over two pipes, so that nothing but node and the browser is needed:
// messages are JSON and end with a NUL byte.
import { spawn } from "node:child_process";
import { accessSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

/** What runs in the page: an empty text, or what is wrong. */
const CHECKS = {
  "the page is no wider than the screen": () => {
    const wide = document.documentElement.scrollWidth;
    return wide <= innerWidth ? "" : `${wide} wide on ${innerWidth}`;
  },
  "nothing is loaded from elsewhere": () => performance.getEntriesByType("resource").map((entry) => entry.name).join(" "),
  "every link leads to a case": () => {
    const leads = (link) => document.getElementById(link.hash.slice(1)) instanceof HTMLDetailsElement;
    return [...document.querySelectorAll(".grid a")].find((link) => !leads(link))?.hash ?? "";
  },
  "a link opens its case": () => {
    // A browser slows pages down that go to hundreds of places at once.
    const links = [...document.querySelectorAll(".grid a")];
    const each = Math.ceil(links.length / 20);
    for (const link of links.filter((_, index) => index % each === 0)) {
      location.hash = link.hash;
      dispatchEvent(new Event("hashchange"));
      if (!document.getElementById(link.hash.slice(1)).open) return link.hash;
    }
    return "";
  },
  "the search leaves exactly the cases it names": () => {
    const rows = [...document.querySelectorAll(".grid tbody tr")];
    const find = document.getElementById("find");
    const search = (text) => {
      find.value = text;
      find.dispatchEvent(new Event("input"));
    };
    const name = rows[0].dataset.case;
    search(name);
    const left = rows.filter((row) => !row.hidden).map((row) => row.dataset.case);
    search("");
    const back = rows.every((row) => !row.hidden);
    return left.includes(name) && left.every((one) => one.includes(name)) && back ? "" : left.join(" ");
  },
  "a press on an outcome leaves exactly its cases": () => {
    for (const button of document.querySelectorAll(".count")) {
      button.click();
      for (const row of document.querySelectorAll(".grid tbody tr")) {
        const has = !!row.querySelector(`td[data-outcome='${button.dataset.outcome}']`);
        if (has === row.hidden) return `${button.dataset.outcome} ${row.dataset.case}`;
      }
      button.click();
    }
    return "";
  },
  "every command can be copied whole": () => {
    const copied = [];
    copyText = (text) => copied.push(text) && true;
    const commands = [...document.querySelectorAll(".command")];
    for (const command of commands) command.querySelector("button.copy").click();
    const wanted = commands.map((command) => command.querySelector("code").textContent);
    const whole = wanted.every((text, index) => text === copied[index] && /^cargo xtask [^\n]+$/.test(text));
    return commands.length > 0 && whole ? "" : copied.join("; ") || "no command";
  },
  "a table that is wider than the screen says so": () => {
    for (const table of document.querySelectorAll(".scroll")) {
      const hint = table.previousElementSibling;
      if (!hint?.classList.contains("hint")) return "no hint";
      if ((getComputedStyle(hint).display !== "none") !== table.scrollWidth > table.clientWidth) return hint.textContent;
    }
    return "";
  },
};

const VIEWS = [
  { name: "light", width: 1280, height: 900, scheme: "light" },
  { name: "dark", width: 1280, height: 900, scheme: "dark" },
  { name: "phone-light", width: 390, height: 844, scheme: "light" },
  { name: "phone-dark", width: 390, height: 844, scheme: "dark" },
];

class Browser {
  #answers = new Map();
  #next = 0;
  #tab;

  constructor(program, profile) {
    // Root, and containers that forbid user namespaces, cannot have its sandbox; the page is our own.
    const options = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
      "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", `--user-data-dir=${profile}`];
    this.child = spawn(program, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.ended.then(() => {
      for (const { reject } of this.#answers.values()) reject(new Error("the browser ended"));
    });
    let rest = Buffer.alloc(0);
    this.child.stdio[4].on("data", (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) this.#hear(JSON.parse(rest.subarray(0, end)));
    });
  }

  #hear(message) {
    const answer = this.#answers.get(message.id);
    if (!answer) return; // Events do not matter here.
    this.#answers.delete(message.id);
    if (message.error) answer.reject(new Error(JSON.stringify(message.error)));
    else answer.resolve(message.result);
  }

  call(method, params = {}) {
    const id = ++this.#next;
    const message = { id, method, params, sessionId: this.#tab };
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject });
      this.child.stdio[3].write(`${JSON.stringify(message)}\0`);
    });
  }

  async attach() {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    ({ sessionId: this.#tab } = await this.call("Target.attachToTarget", { targetId, flatten: true }));
    await this.call("Page.enable");
  }

  async view({ width, height, scheme }) {
    const screen = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.call("Emulation.setDeviceMetricsOverride", screen);
    await this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  async open(url) {
    // A page that differs only behind the # would not be loaded again.
    await this.call("Page.navigate", { url: "about:blank" });
    await this.call("Page.navigate", { url });
    // The page itself cannot be early: a load event may belong to the empty page before.
    for (let asked = 0; asked < 600; asked += 1) {
      if ((await this.evaluate("location.protocol + document.readyState")) === "file:complete") return;
      await sleep(100);
    }
    throw new Error("the page is not loaded after 60 s");
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(`the page's script failed: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }

  async picture(path) {
    const { data } = await this.call("Page.captureScreenshot", { format: "png" });
    writeFileSync(path, Buffer.from(data, "base64"));
  }
}

function found(names) {
  for (const name of names) {
    for (const folder of process.env.PATH.split(delimiter)) {
      try {
        accessSync(join(folder, name));
        return join(folder, name);
      } catch {
        // The next folder may have it.
      }
    }
  }
  throw new Error("there is no chromium: install the package chromium");
}

async function look(browser, page, pictures) {
  for (const view of VIEWS) {
    const { name, width, height } = view;
    await browser.view(view);
    await browser.open(page);
    await browser.picture(join(pictures, `report-${name}.png`));
    for (const [what, check] of Object.entries(CHECKS)) {
      const wrong = await browser.evaluate(`(${check})()`);
      if (wrong !== "") throw new Error(`${name}: not true that ${what}: ${wrong}`);
    }
    // A case, opened: what most readers look at next. The page scrolls there smoothly, in its own time.
    await browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'; location.hash = document.querySelector('.grid a').hash; ''");
    await sleep(500);
    await browser.evaluate("document.querySelector('.case:target').scrollIntoView({behavior: 'instant'}); ''");
    await browser.picture(join(pictures, `report-${name}-case.png`));
    console.error(`${name} (${width} x ${height}): ${Object.keys(CHECKS).length} checks`);
  }
}

const [report, pictures = report] = process.argv.slice(2);
if (!report) {
  console.error("usage: node .ci/check-report.mjs REPORT-FOLDER [PICTURE-FOLDER]");
  process.exit(64);
}
const page = pathToFileURL(realpathSync(join(report, "index.html"))).href;
mkdirSync(pictures, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), "check-report-"));
const browser = new Browser(found(["chromium", "chromium-browser", "google-chrome"]), profile);
try {
  await browser.attach();
  await look(browser, page, pictures);
} catch (error) {
  console.error(`${error.message}`);
  process.exitCode = 1;
} finally {
  browser.child.kill("SIGKILL");
  await browser.ended;
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
