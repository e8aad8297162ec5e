//! A database of an earlier version of redb.

use std::path::Path;

use redb2::{Database, TableDefinition};

const TABLE: TableDefinition<'_, &str, &str> = TableDefinition::new("letters");

/// Writes a database of redb 2 with one row, in a format that later versions do not read.
pub fn write(file: &Path) {
    let database = Database::create(file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert("to", "a friend").unwrap();
    transaction.commit().unwrap();
}
