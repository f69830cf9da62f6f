//! Each form in which patches can be given, and what is hostile about each.

use std::io::Write as _;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::build::patchset::{parse, title::Title};
use crate::outcome::exit_code;
use crate::sh;

const CHANGE: &str = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n";

/// A folder with these files, and what is taken of one of its paths.
fn taken(files: &[(&str, &str)], paths: &[&str]) -> (tempfile::TempDir, Result<Taken>) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let paths: Vec<PathBuf> = paths.iter().map(|path| root.path().join(path)).collect();
    let taken = take(Given::Paths(&paths), &root.path().join("work"));
    (root, taken)
}

fn names(taken: &Taken) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    taken.patches.iter().map(name).collect()
}

fn mail(subject: &str, headers: &str, body: &str) -> String {
    format!(
        "From {} Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: {subject}\n{headers}\n{body}\n",
        "1".repeat(40)
    )
}

#[test]
fn files_stay_what_they_are() {
    let one = mail("[PATCH] x", "", CHANGE);
    let (root, taken) = taken(&[("b.patch", CHANGE), ("a.patch", &one)], &["b.patch", "a.patch"]);
    let paths = ["b.patch", "a.patch"].map(|name| root.path().canonicalize().unwrap().join(name));
    assert_eq!(taken.unwrap().patches, paths);
}

#[test]
fn what_comes_through_a_pipe_is_read_once() {
    let root = tempfile::tempdir().unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(CHANGE.as_bytes()).unwrap();
    drop(writer);
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    let paths = [PathBuf::from(format!("/proc/self/fd/{number}"))];
    let taken = take(Given::Paths(&paths), root.path()).unwrap();
    assert_eq!(fs::read(&taken.patches[0]).unwrap(), CHANGE.as_bytes());
    let missing = take(Given::Paths(&["/no/such.patch".into()]), root.path());
    assert_eq!(exit_code(&missing.unwrap_err()), 64);
}

#[test]
fn a_folder_has_its_patches_in_order_of_their_names() {
    let cover = mail("[PATCH 0/2] all", "", "two fixes\n");
    let files = [
        ("q/0002-b.patch", CHANGE),
        ("q/0001-a.diff", CHANGE),
        ("q/0000-cover-letter.patch", &cover),
        ("q/notes.txt", "x"),
        ("q/sub/c.patch", CHANGE),
    ];
    let (_root, taken) = taken(&files, &["q"]);
    let taken = taken.unwrap();
    assert_eq!(names(&taken), ["0001-a.diff", "0002-b.patch"]);
    assert_eq!(taken.notes.len(), 2, "{:?}", taken.notes);
}

#[test]
fn a_folder_without_patches_is_no_series() {
    let (_root, of_none) = taken(&[("q/notes.txt", "x")], &["q"]);
    assert_eq!(exit_code(&of_none.unwrap_err()), 64);
}

#[test]
fn a_series_file_decides() {
    let files = [
        ("q/series", "# why\nb.patch\nsub/a.patch -p0 # x\n"),
        ("q/b.patch", CHANGE),
        ("q/sub/a.patch", "--- x.c\n+++ x.c\n@@ -1 +1 @@\n-a\n+b\n"),
        ("q/c.patch", CHANGE),
    ];
    for given in ["q", "q/series"] {
        let (_root, taken) = taken(&files, &[given]);
        let taken = taken.unwrap();
        assert_eq!(names(&taken), ["b.patch", "0002-a.patch"]);
        let text = fs::read(&taken.patches[1]).unwrap();
        assert_eq!(parse::parse("p", &text).unwrap()[0].path, "x.c");
    }
}

#[test]
fn a_series_that_cannot_be_followed_is_a_wrong_command_line() {
    for series in [
        "gone.patch\n",
        "../out.patch\n",
        "# nothing\n",
        "series\n",
        "b.patch -R\n",
    ] {
        let files = [("q/series", series), ("q/b.patch", CHANGE), ("out.patch", CHANGE)];
        let (_root, taken) = taken(&files, &["q"]);
        assert_eq!(exit_code(&taken.unwrap_err()), 64, "{series}");
    }
}

#[test]
fn mails_are_patches_with_their_titles() {
    let first = mail(
        "[PATCH 1/2] x: =?UTF-8?q?f=C3=BCr?= one",
        "",
        &format!("This is CVE-2026-12345.\n---\n{CHANGE}-- \n2.39"),
    );
    let second = mail("[PATCH 2/2] y", "", &CHANGE.replace("x.c", "y.c"));
    let cover = mail("[PATCH 0/2] all", "", "two fixes");
    let reply = mail("Re: [PATCH 1/2] x", "", "> --- a/x.c\n> +++ b/x.c\nlooks good");
    let (_root, taken) = taken(&[("t.mbox", &[cover, second, first, reply].concat())], &["t.mbox"]);
    let taken = taken.unwrap();
    assert_eq!(names(&taken), ["0001-x-f-r-one.patch", "0002-y.patch"]);
    let text = fs::read(&taken.patches[0]).unwrap();
    let title = Title::of(&taken.patches[0], &text);
    assert_eq!(
        (title.subject.as_str(), &title.cves[..]),
        ("x: für one", &["CVE-2026-12345".to_owned()][..])
    );
    assert_eq!(title.commit, Some("1".repeat(40)));
    assert_eq!(parse::parse("p", &text).unwrap()[0].path, "x.c");
    // The cover letter, the reply, and the order.
    assert_eq!(taken.notes.len(), 3, "{:?}", taken.notes);
}

#[test]
fn missing_and_double_parts_are_said() {
    let part = |number: usize| mail(&format!("[PATCH {number}/4] x"), "", CHANGE);
    let notes = |parts: &[usize]| {
        let text: String = parts.iter().map(|number| part(*number)).collect();
        let (_root, taken) = taken(&[("t.mbox", &text)], &["t.mbox"]);
        let taken = taken.unwrap();
        (taken.patches.len(), taken.notes.join(" "))
    };
    assert!(
        notes(&[1, 3]).1.contains("2/4, 4/4 is not there"),
        "{:?}",
        notes(&[1, 3])
    );
    assert!(notes(&[1, 1, 2]).1.contains("1/4 is there more than once"));
}

#[test]
fn encoded_bodies_are_decoded_byte_for_byte() {
    let change = "--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n \u{e9} = 1 trailing \n-a\n+b\n";
    // Latin-1, as kernel sources have it.
    let bytes: Vec<u8> = change.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let printable = "--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,=\n2 @@\n =E9 =3D 1 trailing=20\n-a\n+b";
    let base64 = "LS0tIGEveC5jCisrKyBiL3guYwpAQCAtMSwyICsxLDIgQEAKIOkgPSAxIHRyYWlsaW5nIAotYQor\nYgo=";
    for (encoding, body) in [("quoted-printable", printable), ("base64", base64)] {
        let headers = format!("Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: {encoding}\n");
        let single = mail("x", &headers, body);
        for text in [single.clone(), single.replace('\n', "\r\n")] {
            let (_root, taken) = taken(&[("t.patch", &text)], &["t.patch"]);
            let text = fs::read(&taken.unwrap().patches[0]).unwrap();
            let end = &text[text.len() - bytes.len()..];
            assert_eq!(
                String::from_utf8_lossy(end),
                String::from_utf8_lossy(&bytes),
                "{encoding}"
            );
            assert_eq!(end, bytes);
        }
    }
}

#[test]
fn a_patch_that_is_attached_counts_and_a_picture_does_not() {
    let part = |kind: &str, name: &str, text: &str| {
        format!("--XX\nContent-Type: {kind}\nContent-Disposition: attachment; filename=\"{name}\"\n\n{text}\n")
    };
    let body = [
        part("text/plain", "", "see below"),
        part("text/html", "", &CHANGE.replace("x.c", "html.c")),
        part("image/png", "a.png", &CHANGE.replace("x.c", "png.c")),
        part("application/octet-stream", "fix.patch", CHANGE),
        "--XX--\n".to_owned(),
    ];
    let text = mail(
        "x",
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"XX\"\n",
        &body.concat(),
    );
    let (_root, taken) = taken(&[("t.eml", &text)], &["t.eml"]);
    let text = fs::read(&taken.unwrap().patches[0]).unwrap();
    let files = parse::parse("p", &text).unwrap();
    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["x.c"]);
}

#[test]
fn hostile_mails_write_nothing_outside_and_end() {
    let evil = mail("../../../../tmp/evil\u{0} /etc/passwd", "", CHANGE);
    let path = mail("x", "", &CHANGE.replace("x.c", "../../x.c"));
    let (root, taken_) = taken(&[("t.mbox", &format!("{evil}{path}"))], &["t.mbox"]);
    let taken_ = taken_.unwrap();
    let work = root.path().join("work/series");
    assert!(
        taken_.patches.iter().all(|path| path.parent() == Some(&*work)),
        "{:?}",
        taken_.patches
    );
    // The change that leads out of the tree is refused like any other.
    let text = fs::read(&taken_.patches[1]).unwrap();
    assert_eq!(parse::parse("p", &text).unwrap_err().code.name(), "patch.outside-tree");

    let mut nested = String::new();
    for depth in 0..3000 {
        nested += &format!("Content-Type: multipart/mixed; boundary=\"b{depth}\"\n\n--b{depth}\n");
    }
    let nested = mail("x", "", "").trim_end().to_owned() + "\n" + &nested + CHANGE;
    let broken = mail("x", "Content-Transfer-Encoding: base64\n", "!!!! no base64 %%%");
    for text in [nested, broken, "From x Mon Sep 17 00:00:00 2001\n".repeat(50)] {
        let (_root, taken) = taken(&[("t.mbox", &text)], &["t.mbox"]);
        assert_eq!(exit_code(&taken.unwrap_err()), 64, "{}", &text[..60]);
    }
}

#[test]
fn packed_files_are_unpacked_up_to_a_limit() {
    let root = tempfile::tempdir().unwrap();
    let pack = |bytes: &[u8]| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let two = mail("[PATCH 1/2] a", "", CHANGE) + &mail("[PATCH 2/2] b", "", CHANGE);
    for (name, text) in [
        ("t.mbox.gz", pack(two.as_bytes())),
        ("fix.patch.gz", pack(CHANGE.as_bytes())),
    ] {
        fs::write(root.path().join(name), text).unwrap();
    }
    let paths = ["t.mbox.gz", "fix.patch.gz"].map(|name| root.path().join(name));
    let taken = take(Given::Paths(&paths), &root.path().join("work")).unwrap();
    assert_eq!(names(&taken), ["0001-a.patch", "0002-b.patch", "0003-fix.patch"]);

    let bomb = root.path().join("bomb.patch.gz");
    fs::write(&bomb, pack(&vec![b'x'; 1 << 20])).unwrap();
    let error = Budget::of(1 << 16).file(&bomb, "bomb").unwrap_err();
    assert_eq!(exit_code(&error), 64);
    let half = &pack(CHANGE.as_bytes())[..20];
    fs::write(&bomb, half).unwrap();
    assert_eq!(exit_code(&Budget::default().file(&bomb, "half").unwrap_err()), 64);
}

#[test]
fn a_series_is_called_like_its_folder() {
    let files = [("queue/series", "a.patch\n"), ("queue/a.patch", CHANGE)];
    let (root, _) = taken(&files, &["queue"]);
    for path in ["queue", "queue/series"] {
        let paths = [root.path().join(path)];
        assert_eq!(name_of(Given::Paths(&paths)), [PathBuf::from("queue.patch")]);
    }
    assert_eq!(
        name_of(Given::Git(Path::new("r"), "v1..v2")),
        [PathBuf::from("v1..v2.patch")]
    );
}

/// Runs git in a repository of the test; nothing where there is no git.
fn git(folder: &Path, arguments: &[&str]) -> Option<()> {
    sh::find("git")?;
    let mut command: Command = sh::command("git");
    command.arg("-C").arg(folder).args([
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
    ]);
    sh::output(command.args(arguments)).unwrap();
    Some(())
}

#[test]
fn a_range_of_commits_is_a_series_and_merges_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let repository = root.path().join("repo");
    fs::create_dir(&repository).unwrap();
    let put = |text: &str| fs::write(repository.join("x.c"), text).unwrap();
    let Some(()) = git(&repository, &["init", "-q"]) else {
        return;
    };
    put("a\nb\n");
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "base"]);
    git(&repository, &["tag", "base"]);
    // What a user has configured for diffs.
    git(&repository, &["config", "diff.noprefix", "true"]);
    git(&repository, &["config", "diff.external", "/bin/false"]);
    put("A\nb\n");
    git(
        &repository,
        &[
            "commit",
            "-qam",
            "x: first (CVE-2026-11111)\n\n--- a/evil.c\n+++ b/evil.c\n@@ -1 +1 @@\n-a\n+b",
        ],
    );
    put("A\nB\n");
    git(&repository, &["commit", "-qam", "x: second"]);
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    let take = |range: &str| take(Given::Git(&repository, range), &root.path().join("work"));
    let taken = take("base..HEAD").unwrap();
    assert_eq!(
        names(&taken),
        ["0001-x-first-CVE-2026-11111.patch", "0002-x-second.patch"]
    );
    assert_eq!(taken.notes.len(), 1);
    for path in &taken.patches {
        let files = parse::parse("p", &fs::read(path).unwrap()).unwrap();
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["x.c"]);
    }
    assert!(
        Title::of(&taken.patches[0], &fs::read(&taken.patches[0]).unwrap())
            .commit
            .is_some()
    );
    for wrong in [
        "base",
        "base..",
        "..base",
        "base...HEAD",
        "--all..x",
        "HEAD..base",
        "no..such",
        "base..HEAD..x",
    ] {
        assert_eq!(exit_code(&take(wrong).unwrap_err()), 64, "{wrong}");
    }
    git(&repository, &["checkout", "-qb", "side", "base"]);
    fs::write(repository.join("y.c"), "y\n").unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "side"]);
    git(&repository, &["merge", "-q", "--no-ff", "-m", "merged", "main"]);
    let refused = take("base..side").unwrap_err();
    assert_eq!(crate::outcome::refusals(&refused)[0].code.name(), "patch.merge");
    assert_eq!(exit_code(&refused), 2);
}
