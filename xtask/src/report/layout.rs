//! What the pages of reports have in common: one file that needs nothing else, with the same look and the same script.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use super::visible;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Text of a run. It may hold anything, also characters that no page may have.
pub struct Text<'t>(pub &'t str);

impl Render for Text<'_> {
    fn render_to(&self, buffer: &mut String) {
        (*visible(self.0)).render_to(buffer);
    }
}

/// A whole page; `style` comes behind that of all pages.
pub fn page(title: &str, style: &str, header: &Markup, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body {
                header { h1 { (title) } (header) }
                main { (main) }
                footer {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// A table that may be wider than the screen.
pub fn wide(table: &Markup) -> Markup {
    html! {
        p.hint { "Swipe the table sideways to see all of it." }
        div.scroll { (table) }
    }
}

/// A command to be copied. Its lines break between words only, never inside an option; the script adds a button.
pub fn command(what: &str, command: &str) -> Markup {
    html! {
        p.command {
            span.dim { (what) ": " }
            code {
                @for (index, word) in command.split(' ').enumerate() {
                    @if index > 0 { " " }
                    span { (Text(word)) }
                }
            }
        }
    }
}

/// A box to search the rows of the grid with.
pub fn search(what: &str) -> Markup {
    html! {
        label.find { (what) " " input type="search" id="find" autocomplete="off"; }
    }
}
