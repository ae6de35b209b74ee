import Wire

/// The unsettled records of one partition, in offset order. The position is the offset of the first unsettled one.
struct PartitionWindow: Sendable {
    struct Slot: Sendable {
        var offset: UInt64
        var bytes: Int
        var record: PushRecord
        /// Members that still have to be looked up.
        var waiting: [String]
        /// Plans under way that contain it.
        var open = 0
        var attempts = 0
        /// In the expansion queue, in a look-up, or waiting for its next try.
        var queued = false

        var settled: Bool { waiting.isEmpty && open == 0 }
    }

    /// Tells this life of the window from an earlier or later one of the same partition.
    let life: UInt64
    /// Offset of the first record that is not settled: what may be committed.
    private(set) var position: UInt64
    /// Next offset to ask the log for.
    private(set) var next: UInt64
    private(set) var committed: UInt64
    private(set) var bytes = 0
    private var slots: [Slot] = []
    /// Settled slots at the front that have not been cut off the array yet.
    private var head = 0
    /// Serial number of `slots[0]`.
    private var firstSerial: UInt64 = 0

    init(life: UInt64, start: UInt64) {
        self.life = life
        position = start
        next = start
        committed = start
    }

    var count: Int { slots.count - head }
    var uncommitted: Bool { position > committed }

    /// False for an entry that was taken before.
    func takes(_ offset: UInt64) -> Bool { offset >= next }

    /// Appends a record and returns its serial number.
    mutating func append(_ slot: Slot) -> UInt64 {
        slots.append(slot)
        bytes += slot.bytes
        next = slot.offset + 1
        return firstSerial + UInt64(slots.count - 1)
    }

    /// An entry that needs nothing: the position moves over it when everything before it is settled.
    mutating func skip(_ offset: UInt64) {
        next = offset + 1
        if count == 0 { position = next }
    }

    /// Changes a record; nil when it is settled and gone.
    mutating func update<T>(_ serial: UInt64, _ change: (inout Slot) -> T) -> T? {
        guard serial >= firstSerial + UInt64(head), serial - firstSerial < UInt64(slots.count) else { return nil }
        return change(&slots[Int(serial - firstSerial)])
    }

    /// Looks at a record; nil when it is settled and gone.
    func read<T>(_ serial: UInt64, _ look: (Slot) -> T) -> T? {
        guard serial >= firstSerial + UInt64(head), serial - firstSerial < UInt64(slots.count) else { return nil }
        return look(slots[Int(serial - firstSerial)])
    }

    /// Moves the position over the settled front.
    mutating func advance() {
        while head < slots.count, slots[head].settled {
            bytes -= slots[head].bytes
            slots[head].record = PushRecord()
            head += 1
            position = head < slots.count ? slots[head].offset : next
        }
        if head == slots.count, !slots.isEmpty {
            firstSerial += UInt64(slots.count)
            slots.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024 {
            firstSerial += UInt64(head)
            slots.removeFirst(head)
            head = 0
        }
    }

    mutating func confirm(_ offset: UInt64) { committed = max(committed, offset) }

    /// The group's position says that others have settled up to here while we did not have the partition.
    mutating func fastForward(_ offset: UInt64) {
        committed = max(committed, offset)
        guard offset > position else { return }
        while head < slots.count, slots[head].offset < offset {
            slots[head].waiting = []
            slots[head].open = 0
            bytes -= slots[head].bytes
            head += 1
        }
        next = max(next, offset)
        position = head < slots.count ? slots[head].offset : next
    }
}

/// Names a record while it is in a window.
struct RecordKey: Hashable, Sendable {
    var partition: UInt32
    var life: UInt64
    var serial: UInt64
}
