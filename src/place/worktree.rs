//! Which folder do all worktrees of a git repository have in common?
//!
//! Git is not run, its files are read. `.git` is a worktree's git directory, or a file that names it; the git directory
//! of a linked worktree has a file `commondir` that names the one of the repository. The answer depends on the latter
//! alone, so that every worktree gets the same.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};

/// Git reads no longer files of this kind either.
const LONGEST: u64 = 1 << 20;

/// A repository, as found from one of its worktrees or from its git directory.
struct Repository {
    /// The root of the worktree that led here.
    worktree: Option<PathBuf>,
    /// The git directory that its worktrees have in common.
    common: PathBuf,
}

/// The folder that all worktrees of the repository around `path` have in common: the main worktree's root, or the git
/// directory where no main worktree can be found from it (a bare repository). `path` itself if there is no repository
/// around it. Without symbolic links; a file stands for its folder.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let mut folder = canonical(path).context("find", path)?;
    if !folder.is_dir() {
        folder.pop();
    }
    let repository = repository_around(&folder)?;
    Ok(repository.map_or(folder, |repository| repository.root()))
}

/// The folder that [`resolve`] names for a workspace, which need not be there yet, if it is in a worktree that has
/// others beside it and another root than that folder. `None` too if that can't be told.
#[must_use]
pub fn shared_root(workspace: &Path) -> Option<PathBuf> {
    let folder = workspace.ancestors().find_map(|folder| canonical(folder).ok())?;
    let repository = repository_around(&folder).ok()??;
    // Git removes this folder together with the last linked worktree.
    if !repository.common.join("worktrees").is_dir() {
        return None;
    }
    let root = repository.root();
    repository.worktree.is_some_and(|worktree| worktree != root).then_some(root)
}

impl Repository {
    fn root(&self) -> PathBuf {
        let above = self.common.parent().map(Path::to_owned);
        let found = above.into_iter().chain(configured_worktree(&self.common)).find(|folder| {
            // The configuration may be of before the worktree was moved.
            git_directory(&folder.join(".git")).is_ok_and(|directory| directory == self.common)
        });
        found.unwrap_or_else(|| self.common.clone())
    }
}

fn repository_around(folder: &Path) -> Result<Option<Repository>> {
    for folder in folder.ancestors() {
        let dot_git = folder.join(".git");
        match dot_git.symlink_metadata() {
            Ok(_) => {
                let common = common_directory(git_directory(&dot_git)?)?;
                // Only a file can lead astray.
                if !dot_git.is_dir() && !is_git_directory(&common) {
                    return Err(broken(&dot_git, format!("{} is not one", common.display())));
                }
                return Ok(Some(Repository { worktree: Some(folder.to_owned()), common }));
            }
            // A bare repository has no `.git`.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_git_directory(folder) {
                    return Ok(Some(Repository { worktree: None, common: folder.to_owned() }));
                }
            }
            Err(error) => return Err(error).context("look at", &dot_git),
        }
    }
    Ok(None)
}

/// What git takes for one. `HEAD` may be a link to a branch without commits.
fn is_git_directory(folder: &Path) -> bool {
    folder.join("HEAD").symlink_metadata().is_ok()
        && folder.join("objects").is_dir()
        && folder.join("refs").is_dir()
}

/// The git directory of the worktree whose `.git` this is.
fn git_directory(dot_git: &Path) -> Result<PathBuf> {
    if dot_git.is_dir() {
        return canonical(dot_git).context("find", dot_git);
    }
    let text = read(dot_git)?.unwrap_or_default();
    let Some(named) = text.strip_prefix("gitdir: ").filter(|path| !path.is_empty()) else {
        return Err(broken(dot_git, "it does not say gitdir: and a path".to_owned()));
    };
    follow(dot_git, named)
}

/// The git directory that the one of a worktree shares with those of the others; often that is itself.
fn common_directory(git_directory: PathBuf) -> Result<PathBuf> {
    let pointer = git_directory.join("commondir");
    match read(&pointer)? {
        Some(named) => follow(&pointer, &named),
        None => Ok(git_directory),
    }
}

/// Where submodules and `git init --separate-git-dir` lie outside of their worktree, git notes where that is.
fn configured_worktree(common: &Path) -> Option<PathBuf> {
    // The first file has it where worktrees have configurations of their own.
    let named = ["config.worktree", "config"].into_iter().find_map(|name| {
        let config = read(&common.join(name)).ok()??;
        core_worktree(&config)
    })?;
    canonical(&common.join(named)).ok()
}

/// The value of `core.worktree` as git writes it.
fn core_worktree(config: &str) -> Option<String> {
    let mut is_core = false;
    let mut found = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            is_core = line.eq_ignore_ascii_case("[core]");
        } else if is_core
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("worktree")
        {
            found = Some(unquoted(value.trim()));
        }
    }
    found
}

fn unquoted(value: &str) -> String {
    let mut characters = value.chars();
    std::iter::from_fn(|| match characters.by_ref().find(|character| *character != '"')? {
        '\\' => characters.next(),
        character => Some(character),
    })
    .collect()
}

/// The folder that a file names, from the file's own folder on.
fn follow(pointer: &Path, named: &str) -> Result<PathBuf> {
    let folder = pointer.parent().unwrap_or(pointer).join(named);
    match canonical(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(broken(pointer, format!("{} is not there", folder.display())))
        }
        found => found.context("find", &folder),
    }
}

/// The text of a small file without its line end, `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    let metadata = match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.context("look at", path)?,
    };
    // A pipe would be waited for.
    if !metadata.is_file() {
        return Err(broken(path, "it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).context("read", path)?;
    if bytes.len() as u64 > LONGEST {
        return Err(broken(path, "it is too long".to_owned()));
    }
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err(broken(path, "it is not valid UTF-8".to_owned()));
    };
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(Some(text))
}

fn broken(path: &Path, cause: String) -> Error {
    Error::NoRepository { path: path.to_owned(), cause }
}

/// The path without symbolic links, in the form in which others write it.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    // Windows answers `\\?\C:\…`, which few programs understand.
    let plain = cfg!(windows).then(|| path.to_str()?.strip_prefix(r"\\?\")).flatten();
    let plain = plain.filter(|plain| plain.as_bytes().get(1) == Some(&b':'));
    Ok(plain.map(OsStr::new).map_or_else(|| path.clone(), PathBuf::from))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder for repositories, and its path without links.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = canonical(folder.path()).unwrap();
        (folder, path)
    }

    fn write(path: &Path, text: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn make_git_directory(path: &Path) {
        write(&path.join("HEAD"), "ref: refs/heads/main\n");
        fs::create_dir_all(path.join("objects")).unwrap();
        fs::create_dir_all(path.join("refs")).unwrap();
    }

    fn add_worktree(common: &Path, worktree: &Path) {
        let own = common.join("worktrees").join(worktree.file_name().unwrap());
        write(&own.join("commondir"), "../..\n");
        write(&worktree.join(".git"), format!("gitdir: {}\n", own.display()));
    }

    fn resolved(path: &Path) -> PathBuf {
        resolve(path).unwrap()
    }

    #[test]
    fn every_folder_of_every_worktree_has_the_main_root() {
        let (_folder, at) = folder();
        let (main, linked) = (at.join("main"), at.join("linked"));
        make_git_directory(&main.join(".git"));
        add_worktree(&main.join(".git"), &linked);
        let inside = main.join(".worktrees/inside");
        add_worktree(&main.join(".git"), &inside);
        write(&linked.join("src/deep/file.rs"), "");
        for path in [&main, &main.join(".git/refs"), &linked, &linked.join("src/deep"), &inside] {
            assert_eq!(resolved(path), main, "{}", path.display());
        }
        assert_eq!(resolved(&linked.join("src/deep/file.rs")), main);
        for (path, root) in [(&main, None), (&main.join("state"), None), (&linked, Some(&main))] {
            assert_eq!(shared_root(path).as_ref(), root, "{}", path.display());
        }
        assert_eq!(shared_root(&linked.join("not/there/yet")), Some(main));
    }

    #[test]
    fn relative_paths_count_from_the_file_that_names_them() {
        let (_folder, at) = folder();
        make_git_directory(&at.join("main/.git"));
        write(&at.join("main/.git/worktrees/linked/commondir"), "../..");
        write(&at.join("linked/.git"), "gitdir: ../main/.git/worktrees/linked\r\n");
        assert_eq!(resolved(&at.join("linked")), at.join("main"));
    }

    #[test]
    fn without_a_repository_a_folder_is_its_own() {
        let (_folder, at) = folder();
        write(&at.join("some/file"), "");
        assert_eq!(resolved(&at.join("some")), at.join("some"));
        assert_eq!(resolved(&at.join("some/file")), at.join("some"));
        assert_eq!(shared_root(&at), None);
    }

    #[test]
    fn worktrees_of_a_bare_repository_have_the_repository() {
        let (_folder, at) = folder();
        let bare = at.join("around/bare.git");
        make_git_directory(&at.join("around/.git"));
        make_git_directory(&bare);
        for name in ["one", "two"] {
            add_worktree(&bare, &at.join(name));
            assert_eq!(resolved(&at.join(name)), bare);
            assert_eq!(shared_root(&at.join(name)), Some(bare.clone()));
        }
        assert_eq!(resolved(&bare.join("refs")), bare);
        assert_eq!(shared_root(&bare), None);
    }

    #[test]
    fn a_git_directory_beside_the_file_that_names_it_has_the_folder_of_both() {
        let (_folder, at) = folder();
        make_git_directory(&at.join(".bare"));
        write(&at.join(".git"), "gitdir: ./.bare\n");
        add_worktree(&at.join(".bare"), &at.join("feature"));
        for path in [&at, &at.join(".bare"), &at.join("feature")] {
            assert_eq!(&resolved(path), &at);
        }
        assert_eq!(shared_root(&at), None);
    }

    #[test]
    fn a_submodule_and_its_worktrees_have_the_submodule() {
        let (_folder, at) = folder();
        let (sub, common) = (at.join("main/sub \"1\""), at.join("main/.git/modules/sub"));
        make_git_directory(&at.join("main/.git"));
        make_git_directory(&common);
        write(&sub.join(".git"), "gitdir: ../.git/modules/sub\n");
        let configured =
            "[core]\n\tbare = false\n\tworktree = \"../../../sub \\\"1\\\"\"\n[other]\n\tworktree = x\n";
        add_worktree(&common, &at.join("linked"));
        for name in ["config", "config.worktree"] {
            write(&common.join(name), configured);
            assert_eq!(resolved(&sub), sub);
            assert_eq!(resolved(&at.join("linked")), sub);
            fs::remove_file(common.join(name)).unwrap();
        }
        // Without the note neither finds the way, and they still agree.
        assert_eq!(resolved(&sub), common);
        assert_eq!(resolved(&at.join("linked")), common);
        assert_eq!(shared_root(&sub), Some(common));
    }

    #[test]
    fn what_is_wrong_with_git_s_files_is_said() {
        let (_folder, at) = folder();
        let dot_git = at.join(".git");
        let said = |text: &[u8]| {
            write(&dot_git, text);
            let error = resolve(&at).unwrap_err();
            assert_eq!(error.code(), "IO");
            assert_eq!(shared_root(&at), None);
            let message = error.to_string();
            assert!(message.contains(".git leads to no git repository"), "{message}");
            assert!(message.contains("git worktree repair"), "{message}");
            message
        };
        for text in ["", "gitdir: ", "gitdir: \n", "gitdir:x", "../main/.git"] {
            assert!(said(text.as_bytes()).contains("does not say gitdir:"), "{text}");
        }
        assert!(said(b"gitdir: \xFF").contains("not valid UTF-8"));
        assert!(said(&vec![b'x'; 2 << 20]).contains("too long"));
        assert!(said(b"gitdir: gone/.git/worktrees/x").contains("gone/.git/worktrees/x is not there"));
        fs::create_dir(at.join("no-repository")).unwrap();
        assert!(said(b"gitdir: no-repository").contains("no-repository is not one"));

        make_git_directory(&at.join("main/.git"));
        add_worktree(&at.join("main/.git"), &at.join("linked"));
        write(&at.join("main/.git/worktrees/linked/commondir"), "../../../gone");
        let message = resolve(&at.join("linked")).unwrap_err().to_string();
        assert!(message.contains("commondir leads to no git repository"), "{message}");
        let message = resolve(&at.join("nowhere")).unwrap_err().to_string();
        assert!(message.starts_with("cannot find ") && message.contains("nowhere"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        let (_folder, at) = folder();
        make_git_directory(&at.join("real/.git"));
        add_worktree(&at.join("real/.git"), &at.join("linked"));
        std::os::unix::fs::symlink(at.join("real"), at.join("link")).unwrap();
        std::os::unix::fs::symlink(at.join("linked"), at.join("link-to-linked")).unwrap();
        for name in ["real", "link", "linked", "link-to-linked"] {
            assert_eq!(resolved(&at.join(name)), at.join("real"), "{name}");
        }
        assert_eq!(shared_root(&at.join("link-to-linked")), Some(at.join("real")));
        assert_eq!(shared_root(&at.join("link")), None);
        std::os::unix::fs::symlink(".git", at.join(".git")).unwrap();
        assert_eq!(resolve(&at).unwrap_err().code(), "IO");
    }
}
