import RPC
import Wire

/// Something that will happen.
enum AgendaEvent {
    case turn(Int, UInt64)
    case timer(Int, UInt64, UInt64)
    case call(Int, UInt64, CallOrigin?, Payload, deadline: UInt64)
    case reply(CallOrigin, CallResult)
    case work((Simulation) -> Void)
}

/// What will happen, by time; at one time in the order it was added. A binary heap.
struct Agenda {
    private struct Entry {
        let time: UInt64
        let order: UInt64
        let event: AgendaEvent

        func isBefore(_ other: Entry) -> Bool {
            time == other.time ? order < other.order : time < other.time
        }
    }

    private var heap: [Entry] = []
    private var added: UInt64 = 0

    var next: UInt64? { heap.first?.time }

    mutating func add(_ time: UInt64, _ event: AgendaEvent) {
        added += 1
        heap.append(Entry(time: time, order: added, event: event))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func take() -> (UInt64, AgendaEvent)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if heap.isEmpty { return (first.time, first.event) }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in (2 * parent + 1)...(2 * parent + 2) where child < heap.count {
                if heap[child].isBefore(heap[least]) { least = child }
            }
            if least == parent { return (first.time, first.event) }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
