DELETE FROM cascade_a WHERE id = 1;
UPDATE cascade_b SET a = NULL WHERE id = 12;
DELETE FROM cascade_c WHERE id = 21;
UPDATE cascade_a SET id = 30 WHERE id = 3;
