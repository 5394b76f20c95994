//! The closed lists: what can be noticed of a connection, and what kept the observer from noticing.

macro_rules! list {
    ($(#[$docs:meta])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident $id:literal;)+ }) => {
        $(#[$docs])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// All, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The metric label, and the name in `analyze` and the API.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

list! {
    /// What a segment says about those before it. Counted in wire segments.
    TcpEvent {
        /// Bytes that have passed here before and that nobody has acknowledged: lost behind this point.
        RetransmitSeen "retransmit_seen";
        /// Bytes are missing before this segment: lost before this point, or overtaken.
        HoleOpened "hole_opened";
        /// Missing bytes came as a retransmission: they were lost before this point.
        HoleFilledRetransmit "hole_filled_retransmit";
        /// Missing bytes came late, sent once: they were overtaken.
        HoleFilledReorder "hole_filled_reorder";
        /// Bytes sent again although their acknowledgement has passed here: it was lost or late on its way on.
        Spurious "spurious";
        /// Bytes come that the other side has acknowledged already: the first copy went another way.
        AckedBeforeSeen "acked_before_seen";
        /// The very same packet once more: copied by the network.
        Duplicate "duplicate";
        /// A SYN once more.
        SynRetransmit "syn_retransmit";
        /// A SYN-ACK once more.
        SynackRetransmit "synack_retransmit";
        /// A FIN without data once more.
        FinRetransmit "fin_retransmit";
        /// At most one byte before the next one: is the other side still there?
        Keepalive "keepalive";
        /// One byte into a closed window.
        ZeroWindowProbe "zero_window_probe";
        /// The receiver says that it had this already: a retransmission was not needed (RFC 2883).
        Dsack "dsack";
        /// Bytes that never passed here were acknowledged: they went another way, nothing was lost.
        AckedUnseen "acked_unseen";
        /// IP identifiers are missing: candidates for packets lost before this point.
        IdGap "id_gap";
        /// Packets whose IP identifier comes late.
        IdLate "id_late";
        /// Missing identifiers in the midst of retransmissions: packets that were lost before this point.
        IdConfirmed "id_confirmed";
        /// Identifiers missing before a bare acknowledgement: of no weight, acknowledgements may be thinned out.
        AckGap "ack_gap";
        /// The same large segment for the third time: something behind this point may not take its size.
        PmtuSuspect "pmtu_suspect";
    }
}

list! {
    /// Why the observer saw less than there was.
    Quality {
        /// A seventh hole: the two lowest were joined, of what comes again of them only the sums will be right.
        HoleEvicted "hole_evicted";
        /// Bytes that never passed here were acknowledged.
        AckedUnseen "acked_unseen";
        /// A connection's packets have moved to another CPU.
        CpuMove "cpu_move";
        /// A connection of which only one direction passes here.
        OneSided "one_sided";
        /// A connection whose beginning was not seen.
        MidStream "mid_stream";
        /// No room for a new connection.
        TableFull "table_full";
        /// IP identifiers that do not count one host's packets to another.
        IpIdRejected "ip_id_rejected";
        /// A packet that leaves by the interface by which it has come: followed on its way in, not once more.
        Hairpin "hairpin";
    }
}

/// Where events go.
pub trait Sink {
    /// `segments` wire segments were something.
    fn event(&mut self, event: TcpEvent, segments: u32);

    /// The observer saw less than there was.
    fn quality(&mut self, cause: Quality);

    /// `segments` were lost before this point, by the best evidence that this connection gives: its IP identifiers where
    /// they count its packets, else holes that a retransmission filled.
    fn lost_before(&mut self, segments: u32);

    /// `segments` of those have come all the same, late.
    fn came_late(&mut self, segments: u32);
}

/// Sums of all that a [`Sink`] is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ledger {
    /// By the number of the [`TcpEvent`].
    pub events: [u64; TcpEvent::COUNT],
    /// By the number of the [`Quality`].
    pub quality: [u64; Quality::COUNT],
    /// See [`Sink::lost_before`].
    pub lost_before: u64,
    /// See [`Sink::came_late`].
    pub came_late: u64,
}
const _: () = assert!(size_of::<Ledger>() == 8 * (TcpEvent::COUNT + Quality::COUNT + 2));

impl Ledger {
    /// Segments that were this.
    #[must_use]
    pub const fn of(&self, event: TcpEvent) -> u64 {
        self.events[event as usize]
    }

    /// Adds another one's sums.
    pub fn add(&mut self, more: &Self) {
        self.events.iter_mut().zip(more.events).for_each(|(sum, more)| *sum += more);
        self.quality.iter_mut().zip(more.quality).for_each(|(sum, more)| *sum += more);
        self.lost_before += more.lost_before;
        self.came_late += more.came_late;
    }

    /// What has been added since an earlier reading.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        self.events.iter_mut().zip(before.events).for_each(|(now, before)| *now -= before);
        self.quality.iter_mut().zip(before.quality).for_each(|(now, before)| *now -= before);
        self.lost_before -= before.lost_before;
        self.came_late -= before.came_late;
        self
    }
}

impl Sink for Ledger {
    #[inline(always)]
    fn event(&mut self, event: TcpEvent, segments: u32) {
        self.events[event as usize] += u64::from(segments);
    }

    #[inline(always)]
    fn quality(&mut self, cause: Quality) {
        self.quality[cause as usize] += 1;
    }

    #[inline(always)]
    fn lost_before(&mut self, segments: u32) {
        self.lost_before += u64::from(segments);
    }

    #[inline(always)]
    fn came_late(&mut self, segments: u32) {
        self.came_late += u64::from(segments);
    }
}
