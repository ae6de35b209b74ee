import Foundation

/// What a long piece of work shows of itself: a bar that is drawn again on a terminal, a line per tenth elsewhere.
struct ProgressView: Equatable {
    private static let width = 24
    let title: String
    let isTerminal: Bool
    private var shown = -1

    init(_ title: String, isTerminal: Bool) {
        self.title = title
        self.isTerminal = isTerminal
    }

    /// What is to be written now; nil: nothing new.
    ///
    /// - Parameters:
    ///   - done, total: a total of 0 is no work at all, and so all done.
    ///   - note: a few words behind it.
    mutating func update(_ done: UInt64, of total: UInt64, _ note: String) -> String? {
        let part = total == 0 ? 1 : min(1, Double(done) / Double(total))
        let step = isTerminal ? Int(part * 100) : Int(part * 10)
        guard step > shown else { return nil }
        shown = step
        if !isTerminal { return "\(title): \(step * 10) % \(note)\n" }
        let filled = Int(part * Double(Self.width))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: Self.width - filled)
        return "\r\u{1B}[K\(title) [\(bar)] \(step) % \(note)"
    }

    /// A line of its own: something has happened that is no part of the count.
    func event(_ text: String) -> String { isTerminal ? "\r\u{1B}[K\(title): \(text)\n" : "\(title): \(text)\n" }
}

/// A view and the stream that it is written to.
///
/// Isolation: one thread's.
final class Progress {
    private var view: ProgressView

    init(_ title: String) { view = ProgressView(title, isTerminal: isatty(STDERR_FILENO) == 1) }

    func update(_ done: UInt64, of total: UInt64, _ note: String = "") {
        if let text = view.update(done, of: total, note) { Words.write(text, to: STDERR_FILENO) }
    }

    func event(_ text: String) { Words.write(view.event(text), to: STDERR_FILENO) }

    /// Leaves the terminal's line.
    func finish() { if view.isTerminal { Words.write("\n", to: STDERR_FILENO) } }
}
