//! What an engineer should know before the module is loaded, in one list.
//!
//! All of it is known when the livepatch is built and none of it speaks against the patch, but each has surprised somebody
//! on a machine at night. What depends on the machine itself is the matter of `preflight`.

use std::collections::BTreeSet;

use kpatch_core::{Callback, Moment, ObjectName, Sleeps};
use serde::Serialize;

use super::handed_out::HandedOut;

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Notice {
    /// Stable: `keep`, `sleeps`, `module`, `build`, `callbacks`, `unload` or `permanent`.
    kind: &'static str,
    /// Function or object that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// In words.
    text: String,
    /// In fewer words, for who does not ask.
    #[serde(skip)]
    short: Option<String>,
}

impl Notice {
    fn line(&self, all: bool) -> String {
        let text = self.short.as_ref().filter(|_| !all).unwrap_or(&self.text);
        format!("  {:<12}{text}", self.kind)
    }
}

/// What there is to be known.
pub(super) struct Facts<'a> {
    /// The objects that the livepatch registers.
    pub objects: BTreeSet<ObjectName>,
    /// Those of them whose build it cannot tell from another.
    pub untold: Vec<ObjectName>,
    /// Its callbacks.
    pub callbacks: &'a [Callback],
    /// Functions in which tasks sleep.
    pub sleeps: &'a [Sleeps],
    /// Functions and data whose address somebody may keep.
    pub handed_out: &'a [HandedOut],
    /// Whether the module keeps itself.
    pub permanent: bool,
}

impl Facts<'_> {
    /// The list, what comes first on the way of the livepatch first.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.objects.iter().filter_map(late).collect();
        notices.extend(self.untold.iter().map(untold));
        notices.extend(self.objects.iter().filter_map(|object| around(object, self.callbacks)));
        // A thread that never leaves its function holds the transition up for certain.
        let (threads, others): (Vec<_>, Vec<_>) = self.sleeps.iter().partition(|one| one.thread);
        notices.extend(threads.into_iter().chain(others).map(sleeper));
        notices.extend(self.handed_out.iter().map(|one| Notice {
            kind: "keep",
            name: Some(one.name().to_owned()),
            text: one.to_string(),
            short: None,
        }));
        notices.push(self.removal());
        notices
    }

    fn removal(&self) -> Notice {
        let (kind, text) = match self.permanent {
            true => (
                "permanent",
                "the module keeps itself once it is loaded: it can be disabled, and never be removed",
            ),
            false => ("unload", "the module can be disabled and removed again"),
        };
        Notice {
            kind,
            name: None,
            text: text.into(),
            short: None,
        }
    }
}

/// Whether it is worth a person's attention by itself.
pub(super) fn is_news(notice: &Notice) -> bool {
    notice.kind != "unload"
}

/// So many things of a kind are told one by one; a livepatch of a whole point release has a hundred functions that wait.
const MANY: usize = 8;

/// So many of the functions that a function waits in are named.
const MANY_CALLS: usize = 3;

/// The list for a person: all of it, or the first of each kind and how many more there are.
pub(super) fn lines(notices: &[Notice], all: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for group in notices.chunk_by(|one, other| one.kind == other.kind) {
        // One line says no more than "one more" does.
        let shown = if all || group.len() <= MANY + 1 {
            group.len()
        } else {
            MANY
        };
        lines.extend(group[..shown].iter().map(|notice| notice.line(all)));
        if shown < group.len() {
            let more = group.len() - shown;
            lines.push(format!("  {:<12}{more} more (--explain lists them)", group[0].kind));
        }
    }
    lines
}

fn late(object: &ObjectName) -> Option<Notice> {
    (!object.is_vmlinux()).then(|| Notice {
        kind: "module",
        name: Some(object.to_string()),
        text: format!(
            "{object} is a module: it is patched when the livepatch is loaded, or later, whenever {object} is"
        ),
        short: None,
    })
}

fn untold(object: &ObjectName) -> Notice {
    Notice {
        kind: "build",
        name: Some(object.to_string()),
        text: format!(
            "{object} has no build id that the livepatch can look at: another build of it is patched unnoticed"
        ),
        short: None,
    }
}

/// What the first callback does and the second one undoes or completes stays half done for as long as the transition
/// lasts; and one that is reverted never calls the second (kernel/livepatch/transition.c, `klp_complete_transition`).
fn around(object: &ObjectName, callbacks: &[Callback]) -> Option<Notice> {
    let at = |moment| {
        let mut own = callbacks.iter().filter(|callback| callback.object == *object);
        own.find(|callback| callback.moment == moment)
    };
    let (before, after) = (at(Moment::PrePatch)?, at(Moment::PostPatch)?);
    let (before, after) = (&before.name, &after.name);
    Some(Notice {
        kind: "callbacks",
        name: Some(object.to_string()),
        text: format!(
            "{before} runs before the transition of {object} and {after} behind it: what lies between them may last for \
             ever, and {after} does not run at all if the transition is reverted"
        ),
        short: None,
    })
}

fn sleeper(one: &Sleeps) -> Notice {
    let name = &one.name;
    let calls: Vec<&str> = one.calls.iter().map(String::as_str).collect();
    let what = match one.thread {
        true => "looks like the loop of a kernel thread",
        false => "waits",
    };
    let way = match one.new_code_only {
        true => "its new code, and a task in it holds up the way back",
        false => "a task in it holds up the transition",
    };
    let text = |calls: &str| format!("{name} {what} ({calls}): {way}");
    let short = (calls.len() > MANY_CALLS + 1).then(|| {
        let (named, more) = (calls[..MANY_CALLS].join(", "), calls.len() - MANY_CALLS);
        text(&format!("{named} and {more} more"))
    });
    Notice {
        kind: "sleeps",
        name: Some(name.clone()),
        text: text(&calls.join(", ")),
        short,
    }
}
