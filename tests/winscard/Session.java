import java.util.HexFormat;
import java.util.List;
import javax.smartcardio.Card;
import javax.smartcardio.CardChannel;
import javax.smartcardio.CardTerminal;
import javax.smartcardio.CommandAPDU;
import javax.smartcardio.TerminalFactory;

/**
 * A program with javax.smartcardio: terminals, a card, exchanges, a transaction, a control code, a reset.
 *
 * Says what the only terminal is called, the card's protocol and ATR, and what it answers to the commands that are the
 * arguments; a line each, bytes in hexadecimal. Arguments may also be `absent` and `present`: it waits until the card is,
 * says so, and connects to the card that comes.
 */
public class Session {
    private static final HexFormat HEX = HexFormat.of();
    private static final long LONG = 120_000; // milliseconds
    private static final String ECHO = "001000000104";
    private static final String ECHOED = "049000";

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static String answer(CardChannel channel, String command) throws Exception {
        return HEX.formatHex(channel.transmit(new CommandAPDU(HEX.parseHex(command))).getBytes());
    }

    public static void main(String[] arguments) throws Exception {
        List<CardTerminal> terminals = TerminalFactory.getDefault().terminals().list();
        check(terminals.size() == 1, "one terminal: " + terminals);
        CardTerminal terminal = terminals.get(0);
        System.out.println(terminal.getName());
        check(terminal.isCardPresent() && terminal.waitForCardPresent(1000), "a card is there");
        check(!terminal.waitForCardAbsent(50), "it stays there");
        Card card = terminal.connect("*");
        System.out.println(card.getProtocol());
        System.out.println(HEX.formatHex(card.getATR().getBytes()));
        CardChannel channel = card.getBasicChannel();
        for (String argument : arguments) {
            switch (argument) {
                case "absent" -> check(terminal.waitForCardAbsent(LONG), "it is taken out");
                case "present" -> {
                    check(terminal.waitForCardPresent(LONG), "it is put in");
                    card = terminal.connect("*");
                    channel = card.getBasicChannel();
                }
                default -> argument = answer(channel, argument);
            }
            System.out.println(argument);
        }
        card.beginExclusive();
        check(answer(channel, ECHO).equals(ECHOED), "within");
        card.endExclusive();
        check(card.transmitControlCommand(0x42000D48, new byte[0]).length > 0, "features");
        card.disconnect(true);
        check(answer(terminal.connect("*").getBasicChannel(), ECHO).equals(ECHOED), "after the reset");
    }
}
