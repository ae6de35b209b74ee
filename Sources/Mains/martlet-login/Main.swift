import ArgumentParser
import MartletSuite

@main
struct MartletLogin: ServiceExecutable {
    static let role = "login"
    static let abstract = "Connections of clients: sessions, order per device, push windows."
    @OptionGroup var options: ServiceOptions
}
