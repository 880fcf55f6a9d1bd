// Random traffic against a reference memory. Plusargs: +seed=N, +fail_seed=N (that seed corrupts one word).
`timescale 1ns / 1ps
module fifo_tb;
    parameter CYCLES = 2000;

    reg clk = 0;
    reg rst = 1;
    reg push = 0;
    reg pop = 0;
    reg [7:0] din = 0;
    wire [7:0] dout;
    wire full, empty;

    fifo #(.WIDTH(8), .DEPTH(16)) dut (
        .clk(clk), .rst(rst), .push(push), .din(din), .pop(pop), .dout(dout), .full(full), .empty(empty)
    );

    integer seed, fail_seed, cycle, errors, words, random;
    integer write_index, read_index;
    reg [7:0] reference [0:CYCLES];

    always #5 clk = ~clk;

    initial begin
        if (!$value$plusargs("seed=%d", seed)) seed = 1;
        if (!$value$plusargs("fail_seed=%d", fail_seed)) fail_seed = 0;
        random = seed;
        errors = 0;
        words = 0;
        write_index = 0;
        read_index = 0;
        repeat (2) @(negedge clk);
        rst = 0;
        for (cycle = 0; cycle < CYCLES; cycle = cycle + 1) begin
            push = $random(random);
            pop = $random(random);
            din = $random(random);
            if (pop && !empty) begin
                words = words + 1;
                if (dout !== reference[read_index]) begin
                    errors = errors + 1;
                    $display("ERROR: cycle %0d: word %0d is %h, expected %h", cycle, read_index, dout, reference[read_index]);
                end
                read_index = read_index + 1;
            end
            if (push && !full) begin
                reference[write_index] = din;
                if (seed == fail_seed && write_index == 100) din = ~din;
                write_index = write_index + 1;
            end
            @(negedge clk);
        end
        $display("RESULT seed=%0d words=%0d errors=%0d", seed, words, errors);
        $finish;
    end
endmodule
