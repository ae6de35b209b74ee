import Foundation

/// The terminal's modes and the thread that reads from it.
final class Terminal: Sendable {
    let isInteractive: Bool
    private let descriptor: Int32
    private let saved: termios

    init(descriptor: Int32 = STDIN_FILENO) {
        self.descriptor = descriptor
        var modes = termios()
        isInteractive =
            isatty(descriptor) == 1 && isatty(STDOUT_FILENO) == 1 && tcgetattr(descriptor, &modes) == 0
        saved = modes
    }

    /// Keys one by one and unechoed, until `restore`.
    func makeRaw() {
        guard isInteractive else { return }
        var modes = saved
        modes.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG | IEXTEN)
        modes.c_iflag &= ~tcflag_t(ICRNL | IXON)
        tcsetattr(descriptor, TCSADRAIN, &modes)
    }

    func restore() {
        guard isInteractive else { return }
        var modes = saved
        tcsetattr(descriptor, TCSADRAIN, &modes)
    }

    /// Columns and rows now.
    var size: (width: Int, height: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// What is typed or piped in, in chunks. A thread of its own reads, at most `InputChunks.ahead` chunks in advance,
    /// so a pipe of any length is held back instead of kept in memory.
    func chunks() -> InputChunks { InputChunks(descriptor: descriptor) }
}

/// Chunks of an input descriptor; call `done` after each.
struct InputChunks: Sendable {
    static let ahead = 4
    let stream: AsyncStream<[UInt8]>
    /// Made empty and then filled: Dispatch stops a program that drops a semaphore below its first value.
    private let credit = DispatchSemaphore(value: 0)

    init(descriptor: Int32) {
        let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
        self.stream = stream
        let credit = credit
        for _ in 0..<Self.ahead { credit.signal() }
        let thread = Thread {
            var buffer = [UInt8](repeating: 0, count: 4_096)
            while true {
                credit.wait()
                let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
                if count < 0 && errno == EINTR {
                    credit.signal()
                    continue
                }
                guard count > 0 else { break }
                continuation.yield(Array(buffer[..<count]))
            }
            continuation.finish()
        }
        thread.start()
    }

    func done() { credit.signal() }
}
