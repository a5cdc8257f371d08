//! Any JavaScript string names a task, a phase or an agent.

use super::*;

on_each_store! {
    every_string_is_a_key_of_its_own_and_found_again_exactly,
    every_string_is_an_agent_of_its_own,
}

fn odd_texts() -> Vec<Text> {
    vec![
        t(""),
        t("a"),
        t("a\0"),
        t("a\0b"),
        t("\0"),
        t("'; DROP TABLE phase_leases; --"),
        t("\u{FFFD}"),
        t("😀"),
        Text::from_utf16(&[0xD83D]),
        Text::from_utf16(&[0xDE00]),
        Text::from_utf16(&[0xDE00, 0xD83D]),
        Text::from_utf16(&[0x61, 0xD83D]),
        Text::from("x".repeat(100_000)),
        Text::from(format!("{}y", "x".repeat(100_000))),
    ]
}

fn every_string_is_a_key_of_its_own_and_found_again_exactly(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let a = fixture.manager("a");
    let texts = odd_texts();
    for task in &texts {
        for phase in &texts {
            let answer = a.acquire(task, phase, soon()).unwrap();
            assert!(matches!(answer, Acquisition::Acquired(_)), "{task:.40?} {phase:.40?}");
        }
    }
    for task in &texts {
        for phase in &texts {
            let lease = a.get(task, phase, soon()).unwrap().unwrap();
            assert_eq!((&lease.task_id, &lease.phase), (task, phase));
        }
    }
    let count = u64::try_from(texts.len() * texts.len()).unwrap();
    assert_eq!(a.stats(soon()).unwrap().total_leases, count);
    assert_eq!(a.release_all(soon()).unwrap(), count);
}

#[test]
fn other_programs_find_strings_as_text_and_halves_of_pairs_as_blobs() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let half = Text::from_utf16(&[0x61, 0xD83D]);
    acquired(&a, "a\0b");
    a.acquire(&half, &t("PLAN"), soon()).unwrap();
    assert_eq!(
        fixture.query::<String>("SELECT task_id FROM phase_leases WHERE typeof(task_id) = 'text'"),
        "a\0b"
    );
    let blob: Vec<u8> = fixture.query("SELECT task_id FROM phase_leases WHERE typeof(task_id) = 'blob'");
    assert_eq!(blob, half.as_wtf8());
}

fn every_string_is_an_agent_of_its_own(new_fixture: NewFixture) {
    let fixture = new_fixture();
    for agent in odd_texts() {
        let options = LeaseOptions { agent_id: agent.clone(), ..options("") };
        let manager = fixture.open(options).unwrap();
        acquired(&manager, "t");
        assert!(holds(&manager, "t"));
        assert!(!holds(&fixture.manager("someone else"), "t"));
        let Acquisition::Held { holder, .. } = acquire(&manager, "t") else { panic!("not held") };
        assert_eq!(holder, agent);
        assert!(release(&manager, "t"));
    }
}
