//! The places at which tests make an agent fail; see `proffer_faults`.

proffer_faults::places! {
    /// Records are about to be appended to the journal.
    JOURNAL_BEFORE_WRITE = "journal-before-write";
    /// Records are in the journal and not synced.
    JOURNAL_WRITTEN = "journal-written";
    /// Records are durable, and nobody was told.
    JOURNAL_SYNCED = "journal-synced";
    /// A compacted journal is durable under its temporary name.
    JOURNAL_BEFORE_RENAME = "journal-before-rename";
    /// A compacted journal has its name.
    JOURNAL_RENAMED = "journal-renamed";
    /// A container is prepared and its task is in the journal; the launcher was not told.
    LAUNCH_BEFORE_ORDER = "launch-before-order";
    /// A program runs, and the core has not heard of it.
    LAUNCHED = "launched";
    /// A container has ended, and the core has not heard of it.
    EXITED = "exited";
    /// An update was acknowledged, which is not in the journal.
    ACKNOWLEDGED = "acknowledged";
    /// The cgroups of a container that ended are removed, and its records are there.
    RELEASE_BEFORE_RECORDS = "release-before-records";
    /// The records of a container that ended have another name, and are not ready for use.
    RECORDS_BEFORE_LAID_BY = "records-before-laid-by";
    /// An old sandbox is about to be removed.
    SANDBOX_BEFORE_REMOVAL = "sandbox-before-removal";
    /// An old sandbox is removed, and its parents are there.
    SANDBOX_REMOVED = "sandbox-removed";
}
