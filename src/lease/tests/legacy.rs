//! Old programs: their databases, and themselves on the same file.

use super::*;
use crate::clock::iso_timestamp;
use crate::lease::Renewal;

const OLD_SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS phase_leases (
  lease_id TEXT PRIMARY KEY, task_id TEXT NOT NULL, phase TEXT NOT NULL, agent_id TEXT NOT NULL,
  acquired_at TEXT NOT NULL, expires_at TEXT NOT NULL, renewed_count INTEGER NOT NULL DEFAULT 0,
  UNIQUE(task_id, phase));
CREATE INDEX IF NOT EXISTS idx_phase_leases_expires_at ON phase_leases(expires_at);";

/// Inserts as the old program does; false where the key is taken.
fn old_insert(connection: &Connection, lease: &str, task: &str, expires_ms: i64) -> bool {
    let inserted = connection.execute(
        "INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count)
         VALUES (?, ?, 'PLAN', 'old', ?, ?, 0)",
        (lease, task, iso_timestamp(expires_ms - 10 * SECOND), iso_timestamp(expires_ms)),
    );
    match inserted {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("UNIQUE constraint failed"), "{error}");
            false
        }
    }
}

#[test]
fn an_old_database_is_upgraded_and_its_leases_respected() {
    let fixture = Fixture::new();
    let old = fixture.connection();
    old.execute_batch(OLD_SCHEMA).unwrap();
    old.execute_batch("CREATE TABLE other (x); INSERT INTO other VALUES (7); PRAGMA user_version = 3")
        .unwrap();
    assert!(old_insert(&old, "l1", "live", START + 5 * SECOND));
    assert!(old_insert(&old, "l2", "dead", START - 5 * SECOND));
    let a = fixture.manager("a");
    assert_eq!(acquire(&a, "live"), Acquisition::Held { holder: t("old"), remaining_ms: 5 * SECOND });
    let old_token = a.get(&t("dead"), &t("PLAN"), soon()).unwrap().unwrap().fencing_token;
    assert!(old_token > 0);
    assert!(acquired(&a, "dead").fencing_token > old_token);
    acquired(&a, "new");
    fixture.clock.advance(6 * SECOND);
    assert!(acquired(&a, "live").fencing_token > 0);
    assert_eq!(
        a.renew(&t("new"), &t("PLAN"), soon()).unwrap(),
        Renewal::Renewed { expires_at_ms: START + 16 * SECOND }
    );
    assert!(release(&a, "new"));
    assert_eq!(fixture.query::<i64>("SELECT x FROM other"), 7);
    assert_eq!(fixture.query::<i64>("PRAGMA user_version"), 3);
    assert_eq!(fixture.query::<String>("PRAGMA journal_mode"), "wal");
    // What was upgraded is left alone by the next one.
    let version: i64 = fixture.query("PRAGMA schema_version");
    fixture.manager("b");
    assert_eq!(fixture.query::<i64>("PRAGMA schema_version"), version);
}

#[test]
fn an_old_program_works_beside_us_on_either_shape() {
    for old_shape in [false, true] {
        let fixture = Fixture::new();
        let old = fixture.connection();
        if old_shape {
            old.execute_batch(OLD_SCHEMA).unwrap();
        }
        let a = fixture.manager("a");
        old.execute_batch(OLD_SCHEMA).unwrap();

        let ours = acquired(&a, "ours");
        assert!(!old_insert(&old, "l0", "ours", START + 9 * SECOND));
        assert!(old_insert(&old, "l1", "t", START + 10 * SECOND));
        assert!(is_refused(&a, "t"));
        let token = a.get(&t("t"), &t("PLAN"), soon()).unwrap().unwrap().fencing_token;
        assert!(token > ours.fencing_token);

        // Renewed by the old program: its wall time counts.
        let renewed =
            "UPDATE phase_leases SET expires_at = ?, renewed_count = renewed_count + 1 WHERE lease_id = ?";
        old.execute(renewed, (iso_timestamp(START + 30 * SECOND), "l1")).unwrap();
        old.execute(renewed, (iso_timestamp(START + 30 * SECOND), &ours.lease_id)).unwrap();
        fixture.clock.advance(29 * SECOND);
        assert!(holds(&a, "ours") && is_refused(&a, "t"));
        fixture.clock.advance(SECOND);
        assert!(!holds(&a, "ours"));

        // Deleted by the old program as expired, and acquired by it.
        old.execute("DELETE FROM phase_leases WHERE expires_at < ?", [iso_timestamp(START + 31 * SECOND)])
            .unwrap();
        assert_eq!(a.get(&t("ours"), &t("PLAN"), soon()).unwrap(), None);
        assert!(old_insert(&old, "l2", "ours", START + 60 * SECOND));
        assert!(is_refused(&a, "ours"));
        old.execute("DELETE FROM phase_leases WHERE lease_id = 'l2' AND agent_id = 'old'", []).unwrap();
        assert!(acquired(&a, "ours").fencing_token > token);
    }
}

#[test]
fn an_expiry_that_is_no_time_doesn_t_block_its_key() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    fixture.connection().execute("UPDATE phase_leases SET expires_at = 'never'", []).unwrap();
    assert!(!holds(&a, "t"));
    acquired(&a, "t");
}

#[test]
fn rows_of_any_content_are_lived_with() {
    let fixture = Fixture::new();
    let old = fixture.connection();
    old.execute_batch(OLD_SCHEMA).unwrap();
    old.execute_batch(
        "INSERT INTO phase_leases VALUES
           (CAST(x'ff' AS TEXT), 'text', 'PLAN', CAST(x'fe' AS TEXT), CAST(x'fd' AS TEXT), CAST(x'fc' AS TEXT), 'many'),
           (NULL, 'null', 'PLAN', x'01', 1.5, 7, -3),
           (CAST(x'ff00' AS TEXT), 'bytes', 'PLAN', 'a', '', '2020-01-01T00:00:00.000Z', 9e99)",
    )
    .unwrap();
    let a = fixture.manager("a");
    old.execute("UPDATE phase_leases SET fencing_token = 'none' WHERE task_id = 'text'", []).unwrap();
    assert_eq!(a.stats(soon()).unwrap().expired_leases, 3);
    let token = |task| a.get(&t(task), &t("PLAN"), soon()).unwrap().unwrap().fencing_token;
    assert_eq!(token("text"), 0);
    assert!(token("null") > 0 && token("bytes") > 0 && token("null") != token("bytes"));
    // The one whose end is known was long dead.
    crate::lease::sweep_now(&fixture.database(), &*fixture.clock);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 2);
    let before = token("null");
    for task in ["text", "null", "bytes"] {
        assert!(acquired(&a, task).fencing_token > before);
    }
}

#[test]
fn a_table_that_can_t_keep_agents_apart_is_refused_and_left() {
    for (sql, named) in [
        ("CREATE TABLE phase_leases (lease_id TEXT PRIMARY KEY, task_id TEXT, phase TEXT)", "agent_id"),
        (
            "CREATE TABLE phase_leases (lease_id TEXT PRIMARY KEY, task_id TEXT, phase TEXT, agent_id TEXT,
             acquired_at TEXT, expires_at TEXT, renewed_count INTEGER)",
            "not unique on (task_id, phase)",
        ),
    ] {
        let fixture = Fixture::new();
        let other = fixture.connection();
        other.execute_batch(sql).unwrap();
        let error = fixture.try_manager("a").err().unwrap();
        assert_eq!(error.code(), "DATABASE");
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!(fixture.query::<i64>("SELECT count(*) FROM sqlite_schema WHERE type = 'table'"), 1);
    }
}
