//! Tests of the baselines file.

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    lock_file: File,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), lock_file: tempfile::tempfile().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("prompt_baselines.json")
    }

    fn open(&self) -> BaselineFile {
        BaselineFile::new(self.path())
    }

    fn content(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path()).unwrap()).unwrap()
    }

    fn get(&self, file: &mut BaselineFile, key: &str) -> Option<String> {
        file.refresh(&self.lock_file, patient()).unwrap();
        file.get(&key.into()).unwrap().map(|baseline| baseline.hash.to_string())
    }

    fn add(&self, file: &mut BaselineFile, key: &str, hash: &str) {
        file.refresh(&self.lock_file, patient()).unwrap();
        file.add(&self.lock_file, &[(key.into(), baseline(hash))], Durability::Process).unwrap();
    }
}

fn patient() -> Patience {
    Patience::lasting(Duration::from_secs(10))
}

fn baseline(hash: &str) -> Baseline {
    Baseline::from_json(format!("{{\"hash\":\"{hash}\",\"updatedAt\":\"now\"}}").as_bytes()).unwrap()
}

fn large(fixture: &Fixture) -> BaselineFile {
    let mut file = fixture.open();
    let baselines: Vec<(Text, Baseline)> = (0..5000)
        .map(|number| (format!("T{number}:PLAN").into(), baseline(&format!("{number:064}"))))
        .collect();
    file.refresh(&fixture.lock_file, patient()).unwrap();
    file.add(&fixture.lock_file, &baselines, Durability::Process).unwrap();
    file
}

#[test]
fn the_file_is_made_and_added_to() {
    let fixture = Fixture::new();
    let mut file = fixture.open();
    assert!(matches!(file.refresh(&fixture.lock_file, patient()).unwrap(), State::Missing));
    fixture.add(&mut file, "a:PLAN", "1");
    fixture.add(&mut file, "b:PLAN", "2");
    assert_eq!(fixture.content()["b:PLAN"]["hash"], "2");
    assert_eq!(fixture.get(&mut file, "a:PLAN").as_deref(), Some("1"));
    assert_eq!(fixture.get(&mut fixture.open(), "b:PLAN").as_deref(), Some("2"));
    assert_eq!(fixture.get(&mut file, "c:PLAN"), None);
}

#[test]
fn a_file_is_added_to_in_place_and_stays_whole() {
    let fixture = Fixture::new();
    let mut file = large(&fixture);
    let before = Stamp::of_path(&fixture.path()).unwrap().unwrap();
    fixture.add(&mut file, "new:PLAN", "n");
    let after = Stamp::of_path(&fixture.path()).unwrap().unwrap();
    assert_eq!((before.id, before.size), (after.id, after.size));
    assert_eq!(fixture.content().as_object().unwrap().len(), 5001);
    assert_eq!(fixture.get(&mut file, "new:PLAN").as_deref(), Some("n"));
}

#[test]
fn padding_that_is_used_up_is_renewed() {
    let fixture = Fixture::new();
    let mut file = large(&fixture);
    for number in 0..1500 {
        fixture.add(&mut file, &format!("N{number}:PLAN"), &format!("{number:064}"));
    }
    assert_eq!(fixture.content().as_object().unwrap().len(), 6500);
}

#[test]
fn two_processes_see_each_other_s_entries() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (large(&fixture), fixture.open());
    for number in 0..50 {
        fixture.add(&mut one, &format!("one{number}:PLAN"), "1");
        assert_eq!(fixture.get(&mut two, &format!("one{number}:PLAN")).as_deref(), Some("1"));
        fixture.add(&mut two, &format!("two{number}:PLAN"), "2");
        assert_eq!(fixture.get(&mut one, &format!("two{number}:PLAN")).as_deref(), Some("2"));
    }
    assert_eq!(fixture.content().as_object().unwrap().len(), 5100);
}

#[test]
fn what_others_add_is_all_that_is_read() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (large(&fixture), fixture.open());
    assert_eq!(fixture.get(&mut two, "T1:PLAN"), Some(format!("{:064}", 1)));
    let epoch = two.loaded.as_ref().unwrap().epoch;
    fixture.add(&mut one, "x:PLAN", "1");
    assert_eq!(fixture.get(&mut two, "x:PLAN").as_deref(), Some("1"));
    assert_eq!(two.loaded.as_ref().unwrap().epoch, epoch);
    assert_eq!(one.loaded.as_ref().unwrap().epoch, epoch);
}

#[test]
fn an_edit_by_hand_is_seen() {
    let fixture = Fixture::new();
    let mut file = fixture.open();
    fixture.add(&mut file, "a:PLAN", "1");
    std::fs::write(fixture.path(), "{\n  \"b:PLAN\": \"2\"\n}").unwrap();
    assert_eq!(fixture.get(&mut file, "a:PLAN"), None);
    assert_eq!(fixture.get(&mut file, "b:PLAN").as_deref(), Some("2"));
}

#[test]
fn an_edit_in_place_of_the_same_size_is_seen_at_once() {
    let fixture = Fixture::new();
    let mut file = fixture.open();
    fixture.add(&mut file, "a:PLAN", "1111");
    let content = std::fs::read_to_string(fixture.path()).unwrap();
    std::fs::write(fixture.path(), content.replace("1111", "2222")).unwrap();
    assert_eq!(fixture.get(&mut file, "a:PLAN").as_deref(), Some("2222"));
    std::fs::write(fixture.path(), content.replace("a:PLAN", "b:PLAN")).unwrap();
    assert_eq!(fixture.get(&mut file, "a:PLAN"), None);
    assert_eq!(fixture.get(&mut file, "b:PLAN").as_deref(), Some("1111"));
}

#[test]
fn replacing_keeps_the_others() {
    let fixture = Fixture::new();
    let mut file = fixture.open();
    fixture.add(&mut file, "a:PLAN", "1");
    fixture.add(&mut file, "b:PLAN", "2");
    file.replace(&fixture.lock_file, &[("a:PLAN".into(), baseline("3"))], Durability::Process).unwrap();
    assert_eq!(fixture.get(&mut file, "a:PLAN").as_deref(), Some("3"));
    assert_eq!(fixture.get(&mut file, "b:PLAN").as_deref(), Some("2"));
    assert_eq!(fixture.content().as_object().unwrap().len(), 2);
}

#[test]
fn an_entry_that_counts_as_none_is_replaced() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path(), "{\"a:PLAN\":{\"hash\":\"\"}}").unwrap();
    let mut file = fixture.open();
    assert_eq!(fixture.get(&mut file, "a:PLAN"), None);
    fixture.add(&mut file, "a:PLAN", "1");
    assert_eq!(fixture.get(&mut file, "a:PLAN").as_deref(), Some("1"));
    assert_eq!(fixture.content().as_object().unwrap().len(), 1);
}

#[test]
fn of_two_entries_with_one_key_the_later_counts() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path(), "{\"a:PLAN\":\"1\",\"a:PLAN\":\"2\"}").unwrap();
    assert_eq!(fixture.get(&mut fixture.open(), "a:PLAN").as_deref(), Some("2"));
}

#[test]
fn long_and_odd_entries_are_read_back() {
    let fixture = Fixture::new();
    let mut file = fixture.open();
    let key = Text::from_utf16(&[0xD83D, u16::from(b':'), u16::from(b'P')]);
    let long = "x".repeat(100_000);
    file.refresh(&fixture.lock_file, patient()).unwrap();
    file.add(&fixture.lock_file, &[(key.clone(), baseline(&long))], Durability::Process).unwrap();
    fixture.add(&mut file, &format!("{long}:PLAN"), "1");
    assert_eq!(file.get(&key).unwrap().unwrap().hash.to_string(), long);
    assert_eq!(fixture.get(&mut file, &format!("{long}:PLAN")).as_deref(), Some("1"));
}

#[test]
fn damage_is_told() {
    let fixture = Fixture::new();
    for content in ["", "{\"a:PLAN\":{\"hash\":\"1\"", "[]", "{\"a\":\"\u{0}\"}"] {
        std::fs::write(fixture.path(), content).unwrap();
        let state = fixture.open().refresh(&fixture.lock_file, patient()).unwrap();
        assert!(matches!(state, State::Damaged(_)), "{content}");
    }
}

#[test]
fn who_cannot_wait_reads_little() {
    let fixture = Fixture::new();
    let mut writer = large(&fixture);
    let mut reader = fixture.open();
    let refused = reader.refresh(&fixture.lock_file, Patience::Now).unwrap_err();
    assert_eq!(refused.code(), "JOURNAL_LOCKED");
    reader.refresh(&fixture.lock_file, patient()).unwrap();
    // A few entries more are little, also where the file had to be replaced for them.
    for number in 0..2000 {
        fixture.add(&mut writer, &format!("N{number}:PLAN"), "1");
        reader.refresh(&fixture.lock_file, Patience::Now).unwrap();
    }
    assert_eq!(reader.get(&"N1999:PLAN".into()).unwrap().unwrap().hash.to_string(), "1");
    let changed = [("N0:PLAN".into(), baseline("2"))];
    writer.replace(&fixture.lock_file, &changed, Durability::Process).unwrap();
    assert_eq!(reader.refresh(&fixture.lock_file, Patience::Now).unwrap_err().code(), "JOURNAL_LOCKED");
    assert_eq!(fixture.get(&mut reader, "N0:PLAN").as_deref(), Some("2"));
}
