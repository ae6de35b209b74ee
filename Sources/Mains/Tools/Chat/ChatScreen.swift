/// What to write to a terminal so that messages scroll above a prompt and marks change in place. A value: it returns
/// the bytes and never writes.
struct ChatScreen: Sendable {
    private struct Row: Sendable {
        var number: UInt64?
        var lines: Int
    }

    static let rowLimit = 500

    var width: Int
    var height: Int
    private var prompt = ""
    private var input = ""
    private var rows: [Row] = []

    init(width: Int, height: Int) {
        self.width = max(20, width)
        self.height = max(4, height)
    }

    mutating func show(_ line: ChatLine) -> String {
        guard let text = line.pretty else { return "" }
        let whole = line.number == nil ? text : SendMark.sending.symbol + " " + text
        let columns = ChatLine.columns(whole)
        rows.append(Row(number: line.number, lines: max(1, (columns + width - 1) / width)))
        if rows.count > Self.rowLimit { rows.removeFirst(Self.rowLimit / 2) }
        return "\r\u{1B}[J" + whole + "\n" + promptLine
    }

    /// Overwrites the two columns of a mark, when its line is still on the screen.
    mutating func mark(_ number: UInt64, _ mark: SendMark) -> String {
        guard let index = rows.lastIndex(where: { $0.number == number }) else { return "" }
        let up = rows[index...].reduce(0) { $0 + $1.lines }
        guard up < height else { return "" }
        return "\r\u{1B}[\(up)A" + mark.symbol + "\r\u{1B}[\(up)B" + promptLine
    }

    mutating func set(prompt: String) -> String {
        self.prompt = prompt
        return promptLine
    }

    mutating func set(input: String) -> String {
        self.input = input
        return promptLine
    }

    /// The prompt and as much of the input's end as fits on one line.
    var promptLine: String {
        let room = max(1, width - 1 - ChatLine.columns(prompt))
        var visible = input[...]
        while ChatLine.columns(String(visible)) > room { visible = visible.dropFirst() }
        return "\r\u{1B}[K" + prompt + visible
    }
}
