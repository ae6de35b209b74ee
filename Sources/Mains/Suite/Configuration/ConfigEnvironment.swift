/// Variables that change the configuration: MARTLET_ and the key's path in capitals, `__` between its levels and `_`
/// for `-`. Every such name has a `__`; those without are other variables (MARTLET_LOG, MARTLET_WEB ...). Pure.
enum ConfigEnvironment {
    static func read(
        _ variables: [String: String]
    ) -> (values: [String: ConfigReader.Placed], problems: [ConfigProblem]) {
        var values: [String: ConfigReader.Placed] = [:]
        var problems: [ConfigProblem] = []
        for (name, text) in variables.sorted(by: { $0.key < $1.key })
        where name.hasPrefix("MARTLET_") && name.dropFirst("MARTLET_".count).contains("__") {
            let place = ConfigPlace(source: .environment, name: name)
            guard let key = ConfigSchema.key(variable: name) else {
                let near = Nearest.to(name, of: ConfigSchema.all.map(\.variable))
                problems.append(
                    ConfigProblem(
                        place, "", "no key of the configuration has this variable",
                        cure: near.map { "Did you mean \($0)?" } ?? "`martlet config --keys` lists them; or unset it"))
                continue
            }
            guard let value = key.kind.read(text) else {
                problems.append(key.wrongKind(key.isSecret ? "what is written" : "\"\(text)\"", at: place))
                continue
            }
            if let problem = key.judged(value, at: place) { problems.append(problem) }
            values[key.path] = ConfigReader.Placed(value: value, place: place)
        }
        return (values, problems)
    }
}
