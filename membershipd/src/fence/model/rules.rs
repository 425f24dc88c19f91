//! The rules of the design, each of which a test takes out.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// Nothing is decided without a lease.
    Lease,
    /// When the lease ends everybody is cut.
    CutAtItsEnd,
    /// A process that cannot cut is ended by the kernel.
    DeadMan,
    /// The lease counts from when the heartbeats were sent.
    SentTime,
    /// A round proves something once the own watch has delivered it.
    OwnWatch,
    /// A round proves something once everybody is cut whom the view it proves shuts out.
    CutBeforeProof,
    /// Heartbeats and acknowledgements name the process, not only the node.
    BootId,
    /// Processes that ran before are waited for even if nobody heard of them.
    Formers,
    /// A process that has just started decides nothing.
    Mute,
    /// An admission is recorded before the engine hears of it.
    RecordFirst,
    /// A revocation is acknowledged when the connections are cut, and not before.
    CutFirst,
    /// After a kick the engine is asked for connections that nobody recorded.
    SecondLook,
    /// A grant names the revision that it was decided on.
    CompareAndSet,
    /// A removal is written even where the right is gone already.
    AlwaysWrite,
    /// Who has to be waited for is decided once everything before the revocation was seen.
    WholeView,
    /// Who does not answer is waited for until he cannot serve any more.
    Wait,
}

/// What is looked at together. Each way of events to meet is in one of them, and both at once would be too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One process that admits, cuts and freezes.
    Connections,
    /// A process that decides is followed by another one, and may go on; the removing node may have just started, too.
    Successors,
}

/// All rules but one, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) without: Option<Rule>,
    pub(super) scope: Scope,
}

impl Rules {
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
