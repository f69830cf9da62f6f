//! Which packages a release means, from lists made up on the spot.

use super::*;

/// A list with the packages of these versions of 6.1, as the archive has them.
fn list(versions: &[&str], but: &str) -> String {
    let mut text = String::from("Package: linux-image-amd64\nVersion: 6.1.9-1\nFilename: pool/x.deb\nSize: 1\n\n");
    for version in versions {
        let abi = format!("6.1.0-{}", version_key(version)[2]);
        let mut add = |name: &str, source: &str, more: &str| {
            if !but.is_empty() && name.starts_with(but) {
                return;
            }
            text.push_str(&format!(
                "Package: {name}\nSource: {source}\nVersion: {version}\n{more}Filename: pool/main/l/{name}_{version}.deb\n\
                 Size: 1000\nSHA256: {}\n\n",
                "ab".repeat(32)
            ));
        };
        for flavour in ["cloud-amd64", "amd64"] {
            let signed = format!("linux-signed-amd64 ({})", version.replace('-', "+"));
            let built = format!("Built-Using: linux (= {version})\n");
            add(&format!("linux-image-{abi}-{flavour}"), &signed, &built);
            add(&format!("linux-image-{abi}-{flavour}-dbg"), "linux", "");
            let depends = format!(
                "Depends: linux-headers-{abi}-common (= {version}), linux-kbuild-6.1 (>= {version}), linux-compiler-gcc-12-x86\n"
            );
            add(&format!("linux-headers-{abi}-{flavour}"), "linux", &depends);
        }
        add("linux-source-6.1", "linux", "");
        add("linux-kbuild-6.1", "linux", "");
    }
    text
}

fn index(versions: &[&str], but: &str) -> Index {
    let mut index = Index::default();
    index.add("http://mirror.example/debian/", &list(versions, but));
    index
}

#[test]
fn a_release_has_the_packages_of_its_source() {
    let index = index(&["6.1.170-3", "6.1.176-1"], "");
    let found = choose(&index, "6.1.0-170-cloud-amd64", None).unwrap();
    assert_eq!(found.version, "6.1.170-3");
    assert_eq!(found.image.source, ("linux".to_owned(), "6.1.170-3".to_owned()));
    assert_eq!(found.source.version, "6.1.170-3");
    assert_eq!(found.headers.name, "linux-headers-6.1.0-170-cloud-amd64");
    assert_eq!(
        found.source.uri,
        "http://mirror.example/debian/pool/main/l/linux-source-6.1_6.1.170-3.deb"
    );
    assert_eq!(found.size(), 4000);
    assert!(found.notes.is_empty());
    let releases = index.releases();
    assert_eq!(releases.len(), 4);
    assert!(
        releases[1].contains("-170-") && releases[2].contains("-176-"),
        "{releases:?}"
    );
}

#[test]
fn an_image_without_built_using_has_the_version_of_its_signatures() {
    let text = list(&["7.3.4-1~bpo13+1"], "").replace("Built-Using: linux (= 7.3.4-1~bpo13+1)\n", "");
    let mut index = Index::default();
    index.add("http://mirror.example", &text);
    let image = index.image("6.1.0-4-amd64", None).unwrap();
    assert_eq!(image.source, ("linux".to_owned(), "7.3.4-1~bpo13+1".to_owned()));
}

#[test]
fn build_programs_may_be_of_a_version_nearby() {
    let mut index = index(&["6.1.170-3"], "linux-kbuild");
    for version in ["6.1.192-2", "6.1.176-1", "6.1.9-1"] {
        let text = list(&[version], "linux-image");
        index.add("http://mirror.example", &text);
    }
    let found = choose(&index, "6.1.0-170-amd64", None).unwrap();
    assert_eq!(found.kbuild.version, "6.1.176-1");
    assert!(
        found.notes[0].contains("6.1.176-1 is used instead"),
        "{:?}",
        found.notes
    );
}

#[test]
fn what_left_the_archive_is_named() {
    let error = choose(&index(&["6.1.170-3"], "linux-source"), "6.1.0-170-amd64", None).unwrap_err();
    assert_eq!(error.code, codes::environment::PACKAGE_GONE);
    assert!(
        error
            .why
            .contains("needs linux-source-6.1 6.1.170-3; the archives have no version"),
        "{error}"
    );
    assert!(error.to_string().contains("snapshot"), "{error}");
    let error = choose(&index(&["6.1.170-3"], ""), "6.1.0-170-amd64", Some("6.1.170-2")).unwrap_err();
    assert_eq!(error.code, codes::environment::PACKAGE_GONE);
}

#[test]
fn a_flavour_with_patches_of_its_own_is_refused_since_nobody_has_its_source() {
    let text = list(&["6.1.170-3"], "").replace("-common (=", "-common-rt (=");
    let mut index = Index::default();
    index.add("http://mirror.example", &text);
    let error = choose(&index, "6.1.0-170-amd64", None).unwrap_err();
    assert_eq!(error.code, codes::environment::PACKAGE_GONE);
    assert!(error.why.contains("linux-headers-6.1.0-170-common-rt"), "{error}");
}

#[test]
fn an_image_may_only_name_its_parts() {
    let parts =
        "Depends: linux-binary-6.1.0-170-amd64 (= 6.1.170-3), linux-modules-6.1.0-170-amd64 (= 6.1.170-3), kmod\n";
    let text = list(&["6.1.170-3"], "").replace(
        "Package: linux-image-6.1.0-170-amd64\n",
        &format!("Package: linux-image-6.1.0-170-amd64\n{parts}"),
    );
    let part = |name: &str| {
        let sum = "cd".repeat(32);
        format!("Package: {name}\nVersion: 6.1.170-3\nFilename: pool/{name}.deb\nSize: 5\nSHA256: {sum}\n\n")
    };
    let mut index = Index::default();
    index.add("http://mirror.example", &text);
    index.add("http://mirror.example", &part("linux-modules-6.1.0-170-amd64"));
    let error = choose(&index, "6.1.0-170-amd64", None).unwrap_err();
    assert!(error.why.contains("linux-binary-6.1.0-170-amd64"), "{error}");
    index.add("http://mirror.example", &part("linux-binary-unsigned-6.1.0-170-amd64"));
    let found = choose(&index, "6.1.0-170-amd64", None).unwrap();
    let names: Vec<_> = found.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(
        names,
        ["linux-binary-unsigned-6.1.0-170-amd64", "linux-modules-6.1.0-170-amd64"]
    );
    assert_eq!(found.size(), 4010);
}

#[test]
fn an_unknown_release_has_neighbours() {
    let error = choose(&index(&["6.1.170-3", "6.1.176-1"], ""), "6.1.0-171-amd64", None).unwrap_err();
    assert_eq!(error.code, codes::environment::UNKNOWN_RELEASE);
    assert!(error.to_string().contains("6.1.0-170-amd64"), "{error}");
    assert!(
        choose(&Index::default(), "6.1.0-171-amd64", None)
            .unwrap_err()
            .hint
            .is_none()
    );
}

#[test]
fn the_newest_upload_of_a_release_is_taken_unless_one_is_named() {
    let text = list(&["6.1.170-3"], "");
    let mut index = Index::default();
    index.add("http://mirror.example", &text);
    index.add("http://mirror.example", &text.replace("6.1.170-3", "6.1.170-12"));
    assert_eq!(choose(&index, "6.1.0-170-amd64", None).unwrap().version, "6.1.170-12");
    let older = choose(&index, "6.1.0-170-amd64", Some("6.1.170-3")).unwrap();
    assert_eq!(
        (older.version.as_str(), older.source.version.as_str()),
        ("6.1.170-3", "6.1.170-3")
    );
}

#[test]
fn damaged_lists_give_fewer_packages_and_never_a_path_outside() {
    let whole = list(&["6.1.170-3"], "");
    for end in 0..whole.len() {
        if whole.is_char_boundary(end) {
            Index::default().add("http://mirror.example", &whole[..end]);
        }
    }
    let mut index = Index::default();
    index.add("http://mirror.example", &whole.replace("pool/main", "../../etc"));
    assert!(index.packages.is_empty());
}
